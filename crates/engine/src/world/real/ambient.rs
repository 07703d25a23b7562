//! Wall clock, the system's randomness, and the name of this process.

use crate::world::Ambient;
use std::time::SystemTime;

/// The real surroundings of the process.
#[derive(Debug, Clone)]
pub struct RealAmbient {
    process: String,
}

impl RealAmbient {
    /// Surroundings with a given host name, for skins that know it.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self { process: format!("{}@{}", std::process::id(), host.trim()) }
    }

    /// Surroundings with the host name that the system's files tell, or `unknown`.
    #[must_use]
    pub fn detect() -> Self {
        let told = ["/proc/sys/kernel/hostname", "/etc/hostname"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .find(|text| !text.trim().is_empty());
        Self::new(told.as_deref().unwrap_or("unknown"))
    }
}

impl Ambient for RealAmbient {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// # Panics
    /// Where the operating system has no randomness: a guessable key or a repeated identifier would be worse.
    fn random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no randomness: {error}");
        }
    }

    fn process(&self) -> String {
        self.process.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_and_named() {
        let ambient = RealAmbient::new("box\n");
        let (mut a, mut b) = ([0; 16], [0; 16]);
        ambient.random(&mut a);
        ambient.random(&mut b);
        assert_ne!(a, b);
        assert_eq!(ambient.process(), format!("{}@box", std::process::id()));
        assert!(RealAmbient::detect().process().contains('@'));
    }
}
