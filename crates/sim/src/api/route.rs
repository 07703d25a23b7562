//! Which endpoint a method and path name. The trailing slash is part of the pattern.

/// An endpoint of the vendor's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    CurrentUser,
    SearchByBody,
    SearchByParameter,
    SearchAsks,
    GpuNames,
    Create(u64),
    Read(u64),
    Change(u64),
    Destroy(u64),
    ListV0,
    ListV1,
    InstanceKeys(u64),
    AttachKey(u64),
    DetachKey(u64, u64),
    AccountKeys,
    AddAccountKey,
    RemoveAccountKey(u64),
    RequestLogs(u64),
    Reboot(u64),
    Recycle(u64),
    ChangeBid(u64),
    Command(u64),
    /// A known pattern whose id is not a number.
    BadId,
}

impl Route {
    /// The endpoint, or none for what the vendor's router answers with 404.
    pub(crate) fn of(method: &str, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/")?.strip_suffix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let numbered = |text: &str, make: &dyn Fn(u64) -> Self| Some(text.parse().map_or(Self::BadId, make));
        match (method, parts.as_slice()) {
            ("GET", ["v1", "instances"]) => Some(Self::ListV1),
            ("GET", ["v0", "users", "current"]) => Some(Self::CurrentUser),
            ("POST", ["v0", "bundles"]) => Some(Self::SearchByBody),
            ("GET", ["v0", "bundles"]) => Some(Self::SearchByParameter),
            ("PUT", ["v0", "search", "asks"]) => Some(Self::SearchAsks),
            ("GET", ["v0", "gpu_names", "unique"]) => Some(Self::GpuNames),
            ("PUT", ["v0", "asks", id]) => numbered(id, &Self::Create),
            ("GET", ["v0", "instances"]) => Some(Self::ListV0),
            ("PUT", ["v0", "instances", "request_logs", id]) => numbered(id, &Self::RequestLogs),
            ("PUT", ["v0", "instances", "reboot", id]) => numbered(id, &Self::Reboot),
            ("PUT", ["v0", "instances", "recycle", id]) => numbered(id, &Self::Recycle),
            ("PUT", ["v0", "instances", "bid_price", id]) => numbered(id, &Self::ChangeBid),
            ("PUT", ["v0", "instances", "command", id]) => numbered(id, &Self::Command),
            ("GET", ["v0", "instances", id, "ssh"]) => numbered(id, &Self::InstanceKeys),
            ("POST", ["v0", "instances", id, "ssh"]) => numbered(id, &Self::AttachKey),
            ("DELETE", ["v0", "instances", id, "ssh", key]) => {
                let ids = id.parse().and_then(|id| Ok((id, key.parse()?)));
                Some(ids.map_or(Self::BadId, |(id, key)| Self::DetachKey(id, key)))
            }
            ("GET", ["v0", "instances", id]) => numbered(id, &Self::Read),
            ("PUT", ["v0", "instances", id]) => numbered(id, &Self::Change),
            ("DELETE", ["v0", "instances", id]) => numbered(id, &Self::Destroy),
            ("GET", ["v0", "ssh"]) => Some(Self::AccountKeys),
            ("POST", ["v0", "ssh"]) => Some(Self::AddAccountKey),
            ("DELETE", ["v0", "ssh", id]) => numbered(id, &Self::RemoveAccountKey),
            _ => None,
        }
    }

    /// Whether the vendor answers it without any key.
    pub(crate) fn is_public(self) -> bool {
        matches!(self, Self::SearchByBody | Self::SearchByParameter | Self::SearchAsks | Self::GpuNames)
    }

    /// The instance it is about, for keys that are good for one instance only.
    pub(crate) fn instance(self) -> Option<u64> {
        match self {
            Self::Read(id)
            | Self::Change(id)
            | Self::Destroy(id)
            | Self::InstanceKeys(id)
            | Self::RequestLogs(id)
            | Self::Reboot(id)
            | Self::Recycle(id) => Some(id),
            _ => None,
        }
    }
}
