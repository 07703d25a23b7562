//! The seam to whatever runs the containers: nothing, or real processes behind real SSH servers.

/// What a container needs to know to start.
#[derive(Clone, Debug)]
pub struct Container {
    /// The instance id.
    pub id: u64,
    /// The image as it was asked for; nothing is pulled.
    pub image: String,
    /// Plain environment variables of the create call.
    pub env: Vec<(String, String)>,
    /// The script to run at each start.
    pub onstart: Option<String>,
    /// The key scoped to this one instance.
    pub api_key: String,
    /// What the machine's GPUs are.
    pub gpu: Gpu,
    /// How many of them.
    pub num_gpus: u32,
}

/// A GPU as `nvidia-smi` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    /// The vendor's product name with spaces, such as `RTX 4090`.
    pub vast_name: &'static str,
    /// The driver's product name.
    pub driver_name: &'static str,
    /// Memory in MiB as the driver reports it.
    pub memory_mib: u32,
    /// Compute capability times 100.
    pub compute_cap: u32,
    /// Power limit in watts.
    pub max_power: u32,
}

/// Runs containers on behalf of the state machine. Calls come in the order of simulated time.
pub trait Host: Send {
    /// Prepares a container and returns the port of its proxy endpoint, which stays for the instance's life.
    fn create(&mut self, container: &Container) -> u16;
    /// Starts a container and returns the port of its direct endpoint, a new one at each start.
    fn start(&mut self, container: &Container) -> u16;
    /// Stops a container: its processes end, its files stay.
    fn stop(&mut self, id: u64);
    /// Throws a container's files away and keeps the rest, as a recycle does.
    fn wipe(&mut self, id: u64);
    /// Ends a container for good: processes, files, ports.
    fn destroy(&mut self, id: u64);
    /// What the container has printed so far.
    fn output(&self, id: u64) -> String;
}

/// A host without containers, for harnesses in memory: it only numbers ports.
#[derive(Clone, Debug, Default)]
pub struct NoHost {
    ports: u16,
}

impl NoHost {
    fn next_port(&mut self) -> u16 {
        self.ports = (self.ports + 1) % 20_000;
        40_000 + self.ports
    }
}

impl Host for NoHost {
    fn create(&mut self, _container: &Container) -> u16 {
        self.next_port()
    }
    fn start(&mut self, _container: &Container) -> u16 {
        self.next_port()
    }
    fn stop(&mut self, _id: u64) {}
    fn wipe(&mut self, _id: u64) {}
    fn destroy(&mut self, _id: u64) {}
    fn output(&self, _id: u64) -> String {
        String::new()
    }
}
