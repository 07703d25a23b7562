//! The table of settings.

use super::{Kind, Scope, Setting, Trust};

/// What the other entries are variations of.
const PLAIN: Setting = Setting {
    key: "",
    yaml: &[],
    env: &[],
    flag: None,
    scope: Scope::Every,
    kind: Kind::Text,
    default: "",
    unit: "",
    help: "",
    since: "0.1.0",
    trust: Trust::Free,
};

const PROVIDERS: &[(&str, &str)] = &[("vast", "vast"), ("vast-ai", "vast"), ("vastai", "vast")];
const INSTANCE_TYPES: &[(&str, &str)] = &[
    ("ondemand", "ondemand"),
    ("on-demand", "ondemand"),
    ("on_demand", "ondemand"),
    ("interruptible", "interruptible"),
];
const BOOTSTRAPS: &[(&str, &str)] = &[("none", "none"), ("wait", "wait")];
const RELEASE_ACTIONS: &[(&str, &str)] =
    &[("destroy", "destroy"), ("delete", "destroy"), ("stop", "stop"), ("keep", "keep")];

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "provider",
        yaml: &["provider"],
        env: &["CRABBOX_PROVIDER"],
        flag: Some("provider"),
        kind: Kind::Word(PROVIDERS),
        default: "vast",
        help: "Provider of the machines; this program knows `vast` only",
        ..PLAIN
    },
    Setting {
        key: "apiKey",
        env: &["CRABBOX_VAST_API_KEY", "VAST_API_KEY"],
        kind: Kind::Secret,
        help: "Vast.ai API key",
        trust: Trust::UserOnly,
        ..PLAIN
    },
    Setting {
        key: "apiUrl",
        yaml: &["vast.apiUrl"],
        env: &["CRABBOX_VAST_API_URL", "VAST_API_URL"],
        flag: Some("vast-api-url"),
        kind: Kind::Url,
        default: "https://console.vast.ai/api/v0",
        help: "Address of the Vast.ai API, which receives the API key",
        trust: Trust::CredentialDestination,
        ..PLAIN
    },
    Setting {
        key: "instanceType",
        yaml: &["vast.instanceType"],
        env: &["CRABBOX_VAST_INSTANCE_TYPE"],
        flag: Some("vast-instance-type"),
        kind: Kind::Word(INSTANCE_TYPES),
        default: "ondemand",
        help: "Kind of rental: `ondemand`, or `interruptible` for a bid that others can outbid",
        ..PLAIN
    },
    Setting {
        key: "bid",
        yaml: &["vast.bid"],
        env: &["CRABBOX_VAST_BID"],
        flag: Some("bid"),
        scope: Scope::Creating,
        kind: Kind::Number(128.0),
        default: "0",
        unit: "$/h",
        help: "Bid for an interruptible machine, without its disk; 0 means the lowest bid that wins",
        trust: Trust::CostCap,
        ..PLAIN
    },
    Setting {
        key: "gpuName",
        yaml: &["vast.gpuName"],
        env: &["CRABBOX_VAST_GPU_NAME"],
        flag: Some("vast-gpu-name"),
        help: "GPU model, such as `RTX_4090` or `RTX 4090`; empty means any",
        ..PLAIN
    },
    Setting {
        key: "gpuCount",
        yaml: &["vast.gpuCount"],
        env: &["CRABBOX_VAST_GPU_COUNT"],
        flag: Some("vast-gpu-count"),
        kind: Kind::Count,
        default: "0",
        unit: "GPUs",
        help: "Fewest GPUs an offer must have; 0 means any number",
        ..PLAIN
    },
    Setting {
        key: "image",
        yaml: &["vast.image"],
        env: &["CRABBOX_VAST_IMAGE"],
        flag: Some("vast-image"),
        default: "nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04",
        help: "Container image of the instance",
        ..PLAIN
    },
    Setting {
        key: "templateId",
        yaml: &["vast.templateId"],
        env: &["CRABBOX_VAST_TEMPLATE_ID"],
        flag: Some("vast-template-id"),
        help: "Hash of a Vast.ai template to create from",
        ..PLAIN
    },
    Setting {
        key: "runtype",
        yaml: &["vast.runtype"],
        env: &["CRABBOX_VAST_RUNTYPE"],
        flag: Some("vast-runtype"),
        kind: Kind::Word(&[("ssh_direct", "ssh_direct")]),
        default: "ssh_direct",
        help: "How the instance is reached; only `ssh_direct` works",
        ..PLAIN
    },
    Setting {
        key: "diskGB",
        yaml: &["vast.diskGB"],
        env: &["CRABBOX_VAST_DISK_GB"],
        flag: Some("vast-disk-gb"),
        kind: Kind::Count,
        default: "20",
        unit: "GB",
        help: "Disk of the instance; it counts towards the price",
        ..PLAIN
    },
    Setting {
        key: "maxDphTotal",
        yaml: &["vast.maxDphTotal"],
        env: &["CRABBOX_VAST_MAX_DPH_TOTAL"],
        flag: Some("vast-max-dph-total"),
        kind: Kind::Number(f64::MAX),
        default: "0",
        unit: "$/h",
        help: "Price cap of the instance with its disk; 0 means no cap",
        trust: Trust::CostCap,
        ..PLAIN
    },
    Setting {
        key: "maxCost",
        yaml: &["vast.maxCost"],
        env: &["CRABBOX_VAST_MAX_COST"],
        flag: Some("max-cost"),
        scope: Scope::Paying,
        kind: Kind::Number(f64::MAX),
        default: "0",
        unit: "$",
        help: "Most that one lease may cost in its whole TTL; 0 means no limit",
        trust: Trust::CostCap,
        ..PLAIN
    },
    Setting {
        key: "maxCostPerDay",
        yaml: &["vast.maxCostPerDay"],
        env: &["CRABBOX_VAST_MAX_COST_PER_DAY"],
        flag: Some("vast-max-cost-per-day"),
        scope: Scope::Paying,
        kind: Kind::Number(f64::MAX),
        default: "0",
        unit: "$",
        help: "Most that all leases of this state directory may cost in a day; 0 means no limit",
        trust: Trust::CostCap,
        ..PLAIN
    },
    Setting {
        key: "minReliability",
        yaml: &["vast.minReliability"],
        env: &["CRABBOX_VAST_MIN_RELIABILITY"],
        flag: Some("vast-min-reliability"),
        kind: Kind::Number(1.0),
        default: "0",
        help: "Lowest reliability of an offer, from 0 to 1",
        ..PLAIN
    },
    Setting {
        key: "order",
        yaml: &["vast.order"],
        env: &["CRABBOX_VAST_ORDER"],
        flag: Some("vast-order"),
        kind: Kind::Order,
        default: "dlperf_per_dphtotal desc",
        help: "Which offers come first: `field [asc|desc]`, several between commas",
        ..PLAIN
    },
    Setting {
        key: "user",
        yaml: &["vast.user"],
        env: &["CRABBOX_VAST_USER"],
        flag: Some("vast-user"),
        default: "root",
        help: "SSH user, unless `ssh.user` is set",
        ..PLAIN
    },
    Setting {
        key: "workRoot",
        yaml: &["vast.workRoot"],
        env: &["CRABBOX_VAST_WORK_ROOT"],
        flag: Some("vast-work-root"),
        default: "/work/crabbox",
        help: "Directory on the instance under which leases work",
        ..PLAIN
    },
    Setting {
        key: "releaseAction",
        yaml: &["vast.releaseAction"],
        env: &["CRABBOX_VAST_RELEASE_ACTION"],
        flag: Some("vast-release-action"),
        kind: Kind::Word(RELEASE_ACTIONS),
        default: "destroy",
        help: "What a release does: `destroy`, `stop` (storage is billed on) or `keep` (all is billed on)",
        trust: Trust::ReleaseAction,
        ..PLAIN
    },
    Setting {
        key: "bootTimeout",
        yaml: &["vast.bootTimeout"],
        env: &["CRABBOX_VAST_BOOT_TIMEOUT"],
        flag: Some("vast-boot-timeout"),
        kind: Kind::Duration,
        default: "20m0s",
        help: "Longest time from the create to a ready lease",
        ..PLAIN
    },
    Setting {
        key: "sshTimeout",
        yaml: &["vast.sshTimeout"],
        env: &["CRABBOX_VAST_SSH_TIMEOUT"],
        flag: Some("vast-ssh-timeout"),
        kind: Kind::Duration,
        default: "2m0s",
        help: "How long a fresh instance may refuse the lease's key before the lease is given up",
        ..PLAIN
    },
    Setting {
        key: "bootstrap",
        yaml: &["vast.bootstrap"],
        env: &["CRABBOX_VAST_BOOTSTRAP"],
        flag: Some("vast-bootstrap"),
        kind: Kind::Word(BOOTSTRAPS),
        default: "none",
        help: "Packages on the instance: `none`, or `wait` to install git, rsync, tar and python3, which crabbox needs, before it is ready",
        ..PLAIN
    },
    Setting {
        key: "allowRepositoryPolicy",
        yaml: &["vast.allowRepositoryPolicy"],
        env: &["CRABBOX_VAST_ALLOW_REPOSITORY_POLICY"],
        kind: Kind::Switch,
        default: "false",
        help: "Lets files of a repository raise the price cap, weaken the release action and lengthen the life of leases",
        trust: Trust::UserOnly,
        ..PLAIN
    },
    Setting {
        key: "ttl",
        yaml: &["ttl", "lease.ttl"],
        env: &["CRABBOX_TTL"],
        flag: Some("ttl"),
        scope: Scope::Creating,
        kind: Kind::Duration,
        default: "1h30m0s",
        help: "Longest life of a lease",
        trust: Trust::Lifetime,
        ..PLAIN
    },
    Setting {
        key: "idleTimeout",
        yaml: &["idleTimeout", "lease.idleTimeout"],
        env: &["CRABBOX_IDLE_TIMEOUT"],
        flag: Some("idle-timeout"),
        scope: Scope::Creating,
        kind: Kind::Duration,
        default: "30m0s",
        help: "Time without use after which a lease expires",
        trust: Trust::Lifetime,
        ..PLAIN
    },
    Setting {
        key: "pond",
        yaml: &["pond"],
        env: &["CRABBOX_POND"],
        flag: Some("pond"),
        scope: Scope::Creating,
        kind: Kind::Slug,
        help: "Group that a new lease is recorded in; `list` and `cleanup` keep to the one that is named with them",
        ..PLAIN
    },
    Setting {
        key: "expose",
        flag: Some("expose"),
        scope: Scope::Creating,
        kind: Kind::Ports,
        help: "TCP ports recorded on a new lease for crabbox's `pond connect`; nothing is opened, `tunnel` reaches every port",
        ..PLAIN
    },
    Setting {
        key: "profile",
        yaml: &["profile"],
        env: &["CRABBOX_PROFILE"],
        flag: Some("profile"),
        scope: Scope::Creating,
        default: "default",
        help: "Profile recorded on the lease",
        ..PLAIN
    },
    Setting {
        key: "class",
        yaml: &["class"],
        default: "beast",
        help: "Machine class recorded on the lease; it selects nothing at Vast.ai",
        ..PLAIN
    },
    Setting {
        key: "syncDelete",
        yaml: &["sync.delete"],
        env: &["CRABBOX_SYNC_DELETE"],
        kind: Kind::Switch,
        default: "true",
        help: "Removes from the instance what an earlier sync brought and is gone here",
        ..PLAIN
    },
    Setting {
        key: "syncChecksum",
        yaml: &["sync.checksum"],
        env: &["CRABBOX_SYNC_CHECKSUM"],
        kind: Kind::Switch,
        default: "false",
        help: "Compares files by their content, not by size and modification time",
        ..PLAIN
    },
    Setting {
        key: "syncGitSeed",
        yaml: &["sync.gitSeed"],
        env: &["CRABBOX_SYNC_GIT_SEED"],
        kind: Kind::Switch,
        default: "true",
        help: "Shown by `config show` for crabbox, which clones on the instance; here files travel directly",
        ..PLAIN
    },
    Setting {
        key: "syncFingerprint",
        yaml: &["sync.fingerprint"],
        env: &["CRABBOX_SYNC_FINGERPRINT"],
        kind: Kind::Switch,
        default: "true",
        help: "Skips the sync when nothing changed on either side",
        ..PLAIN
    },
    Setting {
        key: "syncBaseRef",
        yaml: &["sync.baseRef"],
        env: &["CRABBOX_SYNC_BASE_REF"],
        help: "Shown by `config show` for crabbox, which fetches this branch on the instance",
        ..PLAIN
    },
    Setting {
        key: "syncExclude",
        yaml: &["sync.exclude", "sync.excludes"],
        kind: Kind::Patterns,
        help: "What stays behind, besides the built-in list; a later `!pattern` brings back, and each file adds its own",
        ..PLAIN
    },
    Setting {
        key: "syncInclude",
        yaml: &["sync.include", "sync.includes"],
        kind: Kind::Patterns,
        help: "If given, only what one of these patterns names from the root on is synced",
        ..PLAIN
    },
    Setting {
        key: "syncTimeout",
        yaml: &["sync.timeout"],
        env: &["CRABBOX_SYNC_TIMEOUT"],
        kind: Kind::Duration,
        default: "15m0s",
        help: "Longest time of a sync",
        ..PLAIN
    },
    Setting {
        key: "syncWarnFiles",
        yaml: &["sync.warnFiles"],
        env: &["CRABBOX_SYNC_WARN_FILES"],
        kind: Kind::Number(f64::MAX),
        default: "50000",
        unit: "files",
        help: "Files in a sync from which on there is a warning; 0 means never",
        ..PLAIN
    },
    Setting {
        key: "syncWarnBytes",
        yaml: &["sync.warnBytes"],
        env: &["CRABBOX_SYNC_WARN_BYTES"],
        kind: Kind::Number(f64::MAX),
        default: "5368709120",
        unit: "bytes",
        help: "Bytes in a sync from which on there is a warning; 0 means never",
        ..PLAIN
    },
    Setting {
        key: "syncFailFiles",
        yaml: &["sync.failFiles"],
        env: &["CRABBOX_SYNC_FAIL_FILES"],
        kind: Kind::Number(f64::MAX),
        default: "150000",
        unit: "files",
        help: "Files in a sync from which on it is refused; 0 means never",
        ..PLAIN
    },
    Setting {
        key: "syncFailBytes",
        yaml: &["sync.failBytes"],
        env: &["CRABBOX_SYNC_FAIL_BYTES"],
        kind: Kind::Number(f64::MAX),
        default: "21474836480",
        unit: "bytes",
        help: "Bytes in a sync from which on it is refused; 0 means never",
        ..PLAIN
    },
    Setting {
        key: "syncAllowLarge",
        yaml: &["sync.allowLarge"],
        env: &["CRABBOX_SYNC_ALLOW_LARGE"],
        kind: Kind::Switch,
        default: "false",
        help: "Refuses no sync for its size",
        ..PLAIN
    },
    Setting {
        key: "syncAllowMassDeletions",
        env: &["CRABBOX_ALLOW_MASS_DELETIONS"],
        kind: Kind::Switch,
        default: "false",
        help: "Refuses no sync because 200 or more tracked files are deleted here",
        ..PLAIN
    },
    Setting {
        key: "envAllow",
        yaml: &["env.allow"],
        env: &["CRABBOX_ENV_ALLOW"],
        kind: Kind::List,
        default: "CI,NODE_OPTIONS",
        help: "Local variables that commands on the instance receive; a final `*` matches any ending",
        ..PLAIN
    },
    Setting {
        key: "sshUser",
        yaml: &["ssh.user"],
        env: &["CRABBOX_SSH_USER"],
        help: "SSH user for every provider; it wins over `vast.user`",
        ..PLAIN
    },
    Setting {
        key: "sshKey",
        yaml: &["ssh.key"],
        env: &["CRABBOX_SSH_KEY"],
        help: "Shown by `config show` for crabbox; each lease has a key of its own",
        ..PLAIN
    },
    Setting {
        key: "defaultWorkRoot",
        yaml: &["workRoot"],
        env: &["CRABBOX_WORK_ROOT"],
        help: "Work root for every provider; `vast.workRoot` wins over it",
        ..PLAIN
    },
    Setting {
        key: "extraCaFile",
        env: &["NODE_EXTRA_CA_CERTS"],
        help: "PEM file of certificate authorities to trust besides the system's",
        trust: Trust::UserOnly,
        ..PLAIN
    },
];

/// The entry of this key.
#[must_use]
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
