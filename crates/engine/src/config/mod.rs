//! Settings (stand-in).
use crate::lease::{DollarsPerHour, ReleaseAction};
use crate::store::Paths;
use std::path::PathBuf;
use std::time::Duration;
/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceType { /// x
OnDemand, /// x
Interruptible }
/// x
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Settings {  pub api_key:Option<secrecy::SecretString>, pub api_url:String , pub instance_type:InstanceType, pub gpu_name:Option<String> , pub gpu_count:u32 , pub image:String, pub template_id:Option<String>, pub runtype:String, pub disk_gb:u32, pub max_dph_total:Option<DollarsPerHour>, pub min_reliability:f64, pub order:String, pub user:String, pub work_root:String, pub release_action:ReleaseAction, pub release_action_explicit:bool, pub ttl:Duration, pub idle_timeout:Duration, pub profile:String, pub class:String, pub env_allow:Vec<String>, pub extra_ca_file:Option<PathBuf> , pub paths:Paths, pub repo_root:String, pub cwd:PathBuf, pub boot_timeout: Duration, pub ssh_timeout: Duration, pub provider_source: String}
