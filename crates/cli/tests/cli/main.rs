//! The binary from outside, as its users type it: against the simulator, and against a vendor of another make.
//! One binary, since each is linked for itself and waits for the last of its tests alone. `real_faults` is another: it
//! plays hundreds of cases at once, and would hold up whatever runs beside it.

mod deadman;
#[path = "../desk/mod.rs"]
mod desk;
mod dropin;
mod interactive;
mod leases;
mod live_smoke;
mod ponds;
#[cfg(unix)]
#[path = "../real/mod.rs"]
mod real;
#[cfg(unix)]
mod real_secrets;
mod refusals;
mod run;
#[cfg(unix)]
mod run_ends;
mod run_files;
mod safety;
mod samples;
mod sessions;
mod simulator;
mod surface;
#[cfg(unix)]
mod system_sshd;
