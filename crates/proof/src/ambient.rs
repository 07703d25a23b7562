//! The wall clock, which may jump, and seeded randomness.

use crate::life::Life;
use crate::shared::Shared;
use crabbox_vast_engine::world::Ambient;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) struct ProcessAmbient {
    pub shared: Arc<Shared>,
    pub life: Arc<Life>,
}

impl Ambient for ProcessAmbient {
    fn now(&self) -> SystemTime {
        self.shared.wall_clock()
    }

    fn random(&self, bytes: &mut [u8]) {
        self.life.draw(|dice| bytes.fill_with(|| (dice.bits() >> 24) as u8));
        // The seeds of private keys are the only draws of this size.
        if bytes.len() == 32 {
            self.shared.keep_secret(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }

    fn process(&self) -> String {
        format!("{}@stage", self.life.process)
    }
}
