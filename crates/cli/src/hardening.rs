//! What a crash may leave behind: no image of the memory, which holds the API key and private keys.

/// Turns core dumps of this process off. Where the system refuses, nothing is lost but this precaution.
#[cfg(unix)]
pub fn refuse_core_dumps() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Children may want theirs: the hard limit stays, so that they can raise it again.
    let maximum = getrlimit(Resource::Core).maximum;
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    // The limit does not count where dumps are piped to a collector; this does. It also keeps other processes of the
    // user from reading our memory and environment.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Elsewhere there is nothing to turn off.
#[cfg(not(unix))]
pub fn refuse_core_dumps() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn a_core_has_neither_a_size_nor_leave_to_be_written() {
        let before = getrlimit(Resource::Core).maximum;
        super::refuse_core_dumps();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), before));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
