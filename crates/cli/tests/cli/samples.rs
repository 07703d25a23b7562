//! What crabbox prints for a session, line by line, against what this binary prints for the same one.
//!
//! Ids, times, durations, ports and prices are told apart by their form only. A line, or the end of one, that crabbox
//! does not have must stand in [`OURS`] with the words by which the list of differences explains it.

use crate::desk::{Desk, Done, Sim};
use std::process::Command;

/// The beginnings of lines of ours, and where the list of differences has them.
const OURS: &[(&str, &str)] = &[
    ("created lease=", "`created`"),
    ("host key of ", "`host key of`"),
    ("releasing ", "`releasing`"),
    ("billed at ", "`billed at`"),
    ("deadman ", "`deadman`"),
    ("cost so far: ", "`cost so far`"),
    ("contract of its host: ", "`contract of its host`"),
    ("hint: ", "`hint:` line"),
    ("cleanup: ", "one summary line"),
    ("lease ttl=", "`config show` has no `lease` line"),
    ("ok state ", "`doctor` looks at"),
    ("ok claims ", "`doctor` looks at"),
    ("ok keys ", "`doctor` looks at"),
    ("ok journal ", "`doctor` looks at"),
    ("ok inventory ", "`doctor` looks at"),
    ("ok scopes ", "`doctor` looks at"),
    ("ok billing ", "`doctor` looks at"),
    ("ok search ", "`doctor` looks at"),
    ("failed search ", "`doctor` looks at"),
    ("ok clock ", "`doctor` looks at"),
];

/// The ends of lines of ours.
const ENDS: &[(&str, &str)] = &[
    (" cost=", "` cost=$…` follows"),
    (" dph=", "`dph=` and `in=`"),
    (" in=", "`dph=` and `in=`"),
    (" ownership=foreign", "marked `ownership=foreign`"),
];

/// Somebody at a desk with a tree of four files, one of them under an artifact folder and tracked.
struct Session {
    desk: Desk,
    sim: Sim,
    known: Vec<(String, &'static str)>,
}

impl Session {
    fn new() -> Self {
        let desk = Desk::plain();
        let sim = Sim::start_with(&desk, &["-no-rate-limits"]);
        let repo = desk.repo();
        for (name, text) in
            [(".gitignore", "tmp\n"), ("a.txt", "one\n"), ("dist/tracked.txt", "two\n"), ("src/b", "six\n")]
        {
            let path = repo.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let session = Session { known: Vec::new(), desk, sim };
        session.git(&["init", "-q"]);
        session.git(&["add", "-f", "."]);
        session.git(&["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "x"]);
        let home = session.desk.folder.path();
        let path = |end: &str| home.join(end).display().to_string();
        let known = vec![
            (path("repo"), "REPO"),
            (path("other"), "OTHER"),
            (path("work"), "WORK"),
            (path(".config"), "CONFIG"),
            (path(".ssh"), "SSH"),
            (session.sim.url.clone(), "API"),
        ];
        Session { known, ..session }
    }

    fn git(&self, words: &[&str]) {
        let done = Command::new("git")
            .args(words)
            .current_dir(self.desk.repo())
            .env("HOME", self.desk.folder.path())
            .status();
        assert!(done.unwrap().success(), "git {words:?}");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.desk.command(words);
        command.env("CRABBOX_PROVIDER", "vast").env("CRABBOX_VAST_API_KEY", &self.sim.key);
        command.env("CRABBOX_VAST_API_URL", &self.sim.url);
        command.env("CRABBOX_VAST_WORK_ROOT", self.desk.folder.path().join("work"));
        command
    }

    /// Runs a command; what it prints must be what crabbox prints, but for what is known to be ours.
    #[track_caller]
    fn says(&self, words: &[&str], exit: i32, stdout: &str, stderr: &str) {
        self.judge(self.command(words), words, exit, stdout, stderr);
    }

    #[track_caller]
    fn judge(&self, mut command: Command, words: &[&str], exit: i32, stdout: &str, stderr: &str) {
        let done = Done::of(command.output().unwrap()).exits(exit);
        for (what, ours, samples) in [("stdout", &done.stdout, stdout), ("stderr", &done.stderr, stderr)] {
            let ours = without_ours(&self.shape(ours));
            // In hints each program names itself.
            let samples = self.shape(&samples.replace("crabbox ", "crabbox-vast "));
            assert_eq!(ours, samples, "{what} of {words:?}\n{}{}", done.stdout, done.stderr);
        }
    }

    /// The same text with everything that differs from run to run replaced by what it is.
    fn shape(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.known {
            text = text.replace(path, name);
        }
        let mut shaped = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            if line.starts_with("ssh-direct: 'ssh' '-i' ") {
                // The line of the command `ssh`, which has a sample of its own.
                shaped += "ssh-direct: SSH-LINE\n";
                continue;
            }
            let indent = if line.starts_with("  ") { "  " } else { "" };
            let words: Vec<String> = words.into_iter().map(word).collect();
            shaped += &format!("{indent}{}\n", words.join(" "));
        }
        shaped
    }
}

/// A word, each of its parts replaced by what it is.
fn word(text: &str) -> String {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if is_time(text.trim_matches(|c: char| !c.is_ascii_alphanumeric())) {
        return text.replace(text.trim_matches(|c: char| !c.is_ascii_alphanumeric()), "TIME");
    }
    // A time inside, behind a name or between quotes.
    let mut places = text.match_indices("20").map(|(at, _)| at);
    if let Some(at) = places.find(|at| text.get(*at..at + 20).is_some_and(is_time)) {
        return format!("{}TIME{}", word(&text[..at]), word(&text[at + 20..]));
    }
    let mut shaped = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        // Milliseconds in a document.
        let counts = shaped.ends_with("Ms\":") || shaped.ends_with("\"ms\":");
        shaped += &(if counts { "N".to_owned() } else { self::part(part) });
        let other = after.find(inside).unwrap_or(after.len());
        shaped += &after[..other];
        rest = &after[other..];
    }
    shaped
}

fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.as_bytes()[4] == b'-'
}

fn part(text: &str) -> String {
    let hex = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    for (start, name) in [("cbx_", "LEASE"), ("crabbox-cbx-", "KEY"), ("run_", "RUN")] {
        if text.strip_prefix(start).is_some_and(hex) {
            return name.to_owned();
        }
    }
    if text.starts_with("crabbox-ssh-") {
        return "SOCKET".to_owned();
    }
    let duration = text.ends_with('s')
        && text.bytes().all(|b| b.is_ascii_digit() || b".hms".contains(&b))
        && text.len() > 1;
    if duration && text.as_bytes()[0].is_ascii_digit() {
        return "DURATION".to_owned();
    }
    if number(text) && (text.len() > 3 || text.contains('.')) && text != "127.0.0.1" {
        return "N".to_owned();
    }
    text.to_owned()
}

/// What is left when lines and ends of ours are taken away.
fn without_ours(shaped: &str) -> String {
    let mut left = String::new();
    for line in shaped.lines().filter(|line| !OURS.iter().any(|(start, _)| line.starts_with(start))) {
        let ends = ENDS.iter().filter_map(|(end, _)| line.rfind(end));
        let plain = line.starts_with("run summary")
            || line.starts_with("provision")
            || line.contains(" slug=") && line.contains(" target=");
        left += &line[..ends.filter(|_| plain).min().unwrap_or(line.len())];
        left.push('\n');
    }
    left
}

const TOOLS: &str = "ok provider-selection provider=vast source=environment selected=true\n\
    ok git /usr/bin/git\nok ssh /usr/bin/ssh\nok ssh-keygen /usr/bin/ssh-keygen\nok rsync /usr/bin/rsync\nok ssh-key per-lease\n";
const PROVISIONING: &str = "provisioning provider=vast lease=cbx_804f90dd28c2 slug=SLUG offer=500001 gpu=RTX 5090 count=1 max_dph=0.0000 keep=KEEP\n\
    provisioned lease=cbx_804f90dd28c2 vast=700002 gpu=RTX 5090 state=ready\n";
const CONTEXT: &str = "run context:\n  run=run_aeda7735922c portal=- logs=-\n  lease=cbx_4b6cb0eeb123 slug=SLUG provider=vast target=linux type=RTX 5090\n  \
    ssh=root@127.0.0.1:41583 ip=127.0.0.1\n  workdir=WORK/cbx_4b6cb0eeb123/repo workspace=raw actions=-\n";
const DETAILS: &str = "run details provider=vast lease=cbx_4b6cb0eeb123 slug=SLUG run=run_aeda7735922c type=RTX 5090 repo=REPO \
    workdir=WORK/cbx_4b6cb0eeb123/repo actions=- stop_command=\"crabbox stop --provider vast --target linux --vast-api-url API --id SLUG\" idle_timeout=30m0s\n";
const OWNER: &str = "workspace owner acquired wait=180ms recovered=false\n";
const SYNC: &str = "syncing REPO -> 127.0.0.1:WORK/cbx_4b6cb0eeb123/repo\n";
const CANDIDATE: &str = "warning: protected 1 tracked files from built-in artifact excludes: dist/tracked.txt (dist)\nsync candidate: 4 files, 16 B\n";

fn provisioning(slug: &str, keep: bool) -> String {
    PROVISIONING.replace("SLUG", slug).replace("KEEP", &keep.to_string())
}

#[test]
fn without_a_lease() {
    let session = Session::new();
    let doctor = "ok provider provider=vast timeout=10s auth=ready control_plane=ready inventory=ready api=list mutation=false \
        leases=0 runtime=unchecked default_order=dlperf_per_dphtotal desc runtype=ssh_direct user=root\n";
    session.says(&["doctor"], 0, &format!("{TOOLS}{doctor}"), "");
    session.says(&["list", "--json"], 0, "[]\n", "");
    session.says(&["list"], 0, "", "");
    session.says(&["config", "path"], 0, "CONFIG/crabbox/config.yaml\n", "");
    session.says(
        &["config", "show"],
        0,
        "config=CONFIG/crabbox/config.yaml\n\
         provider=vast provider_selected=true provider_source=environment target=linux arch=amd64 os=- windows_mode=normal class=beast type= profile=default\n\
         ssh=root@<host>:22 fallback_ports=- key=SSH/id_ed25519\n\
         sync delete=true checksum=false git_seed=true fingerprint=true base_ref=- excludes=35 includes=0 timeout=15m0s\n\
         env allow=CI,NODE_OPTIONS\nrun preflight_tools=-\n\
         vast api_url=API instance_type=ondemand gpu_name=- gpu_count=0 image=nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04 template_id=- \
         runtype=ssh_direct disk_gb=20 max_dph_total=0 min_reliability=0 order=dlperf_per_dphtotal desc user=root work_root=WORK \
         release_action=destroy auth=configured\n",
        "",
    );
    session.says(&["cleanup", "--dry-run"], 0, "", "");
    session.says(&["run"], 2, "", "usage: crabbox run [flags] -- <command...>\n");
    let missing = "lease/instance not found: nosuch\n";
    session.says(&["run", "--id", "nosuch", "--", "true"], 4, "", missing);
    session.says(&["status", "--id", "nosuch"], 4, "", missing);
    session.says(&["stop", "nosuch"], 4, "", missing);
    let with = |name: &str, value: &str| {
        let mut command = session.command(&["doctor"]);
        command.env(name, value);
        command
    };
    let failed = |why: &str| format!("{TOOLS}failed provider provider=vast {why}\n");
    let problems = "doctor found problems\n";
    session.judge(
        with("CRABBOX_VAST_API_KEY", ""),
        &["doctor", "without a key"],
        1,
        &failed("class=provider hint=check_provider_auth_and_config provider=vast requires CRABBOX_VAST_API_KEY or VAST_API_KEY"),
        problems,
    );
    session.judge(
        with("CRABBOX_VAST_API_KEY", "wrong"),
        &["doctor", "with a wrong key"],
        1,
        &failed("class=auth hint=check_provider_auth_and_config vast GET /users/current/: HTTP 404 auth_error: Invalid user key"),
        problems,
    );
    session.judge(
        with("CRABBOX_VAST_API_URL", "http://example.com/api/v0"),
        &["doctor", "over plain HTTP"],
        1,
        // Nothing is selected by settings that cannot be used.
        failed("class=provider hint=check_provider_auth_and_config vast.apiUrl must use https unless it targets localhost (from CRABBOX_VAST_API_URL)").split_once('\n').unwrap().1,
        problems,
    );
    std::fs::write(
        session.desk.repo().join(".crabbox.yaml"),
        "vast:\n  apiUrl: https://example.com/api/v0\n",
    )
    .unwrap();
    let mut list = session.command(&["list"]);
    list.env_remove("CRABBOX_VAST_API_URL");
    session.judge(
        list,
        &["list", "with a repository's address"],
        2,
        "",
        "provider=vast refuses repository-configured vast.apiUrl with inherited credentials; set CRABBOX_VAST_API_URL or \
         --vast-api-url to explicitly approve the credential destination\n",
    );
}

#[test]
fn a_lease_that_is_kept() {
    let session = Session::new();
    let slug = "crimson-shrimp";
    let line = |state: &str| {
        format!(
            "700001 {slug} {state} RTX 5090 127.0.0.1 lease=cbx_4b6cb0eeb123 slug={slug} keep=true target=linux\n"
        )
    };
    session.says(
        &["warmup", "--keep", "--slug", slug],
        0,
        &format!(
            "leased cbx_4b6cb0eeb123 slug={slug} provider=vast server=700001 type=RTX 5090 ip=127.0.0.1 idle_timeout=30m0s expires=2026-11-23T21:53:34Z\n\
             ready ssh=root@127.0.0.1:41583 network=public workroot=WORK\nwarmup complete total=4.55s\n"
        ),
        &provisioning(slug, true),
    );
    session.says(&["list"], 0, &line("ready"), "");
    // The columns begin where crabbox's do.
    let listed = Done::of(session.command(&["list"]).output().unwrap()).stdout;
    for (at, text) in [(21, slug), (50, "ready"), (63, "RTX 5090"), (78, "127.0.0.1"), (94, "lease=cbx_")] {
        assert!(listed[at..].starts_with(text), "{text} at {at} in {listed:?}");
    }
    let status = format!(
        "cbx_4b6cb0eeb123 slug={slug} provider=vast target=linux windows_mode=normal state=ready type=RTX 5090 host=127.0.0.1 \
         pond=- network=public ready=true has_host=true idle_for=0s idle_timeout=30m0s expires=2026-11-23T21:54:06Z\n"
    );
    session.says(&["status", slug], 0, &status, "");
    session.says(&["status", "--wait", slug], 0, &status, "");
    session.says(
        &["claims", "list"],
        0,
        &format!(
            "Local claims (unverified local state; provider backends were not queried)\n- leaseId: \"cbx_4b6cb0eeb123\"\n  \
             slug: \"{slug}\"\n  provider: \"vast\"\n  repoRoot: \"REPO\"\n  pond: \"\"\n  targetOS: \"\"\n  windowsMode: \"\"\n  \
             claimedAt: \"2026-11-23T21:23:39Z\"\n  lastUsedAt: \"2026-11-23T21:23:39Z\"\n  idleTimeoutSeconds: 1800\n"
        ),
        "",
    );
    session.says(
        &["claims", "list", "--json"],
        0,
        &format!(
            "{{\"version\":1,\"source\":\"local-claims\",\"claims\":[{{\"leaseId\":\"cbx_4b6cb0eeb123\",\"slug\":\"{slug}\",\"provider\":\"vast\",\
             \"repoRoot\":\"REPO\",\"pond\":\"\",\"targetOS\":\"\",\"windowsMode\":\"\",\"claimedAt\":\"2026-11-23T21:23:39Z\",\
             \"lastUsedAt\":\"2026-11-23T21:23:39Z\",\"idleTimeoutSeconds\":1800}}],\"problems\":[]}}\n"
        ),
        "",
    );
    let beat = format!(
        "slug={slug} provider=vast state=ready idle_timeout=30m0s last_touched=2026-11-23T21:25:25Z expires=2026-11-23T21:55:25Z"
    );
    session.says(&["heartbeat", "--id", slug], 0, &format!("heartbeat lease=cbx_4b6cb0eeb123 {beat}\n"), "");
    session.says(
        &["heartbeat", "--id", slug, "--json"],
        0,
        &format!(
            "{{\"id\":\"cbx_4b6cb0eeb123\",\"slug\":\"{slug}\",\"provider\":\"vast\",\"state\":\"ready\",\"lastTouchedAt\":\"2026-11-23T21:25:25Z\",\
             \"idleTimeout\":\"30m0s\",\"expiresAt\":\"2026-11-23T21:55:25Z\"}}\n"
        ),
        "",
    );
    let option = |text: &str| format!(" '-o' '{text}'");
    let options: String = [
        "IdentitiesOnly=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ForwardX11Trusted=no",
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ConnectionAttempts=3",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=2",
    ]
    .iter()
    .map(|text| option(text))
    .collect();
    let more: String = [
        "StrictHostKeyChecking=accept-new",
        "UserKnownHostsFile=CONFIG/crabbox/testboxes/cbx_4b6cb0eeb123/known_hosts",
        "ControlMaster=auto",
        "ControlPersist=10m",
        "ControlPath=/tmp/crabbox-ssh-69f612b5-%C",
    ]
    .iter()
    .map(|text| option(text))
    .collect();
    session.says(
        &["ssh", slug],
        0,
        &format!("'ssh' '-i' 'CONFIG/crabbox/testboxes/cbx_4b6cb0eeb123/id_ed25519'{options} '-p' '41583'{more} 'root@127.0.0.1'\n"),
        "",
    );
    let other = session.desk.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    session.git(&["init", "-q", "../other"]);
    let mut elsewhere = session.command(&["run", "--id", slug, "--", "true"]);
    elsewhere.current_dir(&other);
    session.judge(
        elsewhere,
        &["run", "from another repository"],
        2,
        "",
        "lease cbx_4b6cb0eeb123 is claimed by repo REPO; use --reclaim to claim it for OTHER\n",
    );
    let released = |word: &str| format!("{word} lease=cbx_4b6cb0eeb123 vast=700001 name={slug}\n");
    session.says(&["stop", "--vast-release-action", "stop", slug], 0, "", &released("stop"));
    session.says(&["list"], 0, &line("exited"), "");
    session.says(
        &["heartbeat", "--id", slug],
        5,
        "",
        &format!("lease {slug} is in terminal state stopped\n"),
    );
    session.says(&["stop", slug], 0, "", &released("stop"));
    session.says(&["stop", "--vast-release-action", "destroy", slug], 0, "", &released("destroyed"));
    session.says(&["stop", slug], 4, "", &format!("lease/instance not found: {slug}\n"));
}

#[test]
fn commands_on_a_lease() {
    let session = Session::new();
    let slug = "golden-krill";
    let fill = |text: &str| text.replace("SLUG", slug);
    let (context, details) = (fill(CONTEXT), fill(DETAILS));
    // One that is rented for a command, and given back.
    let steps = "sync_steps=manifest:16ms,preflight:0s,fingerprint:0s,rsync:1.152s";
    session.says(
        &["run", "--slug", slug, "--", "sh", "-c", "echo hi"],
        0,
        "hi\n",
        &format!(
            "{}{OWNER}{SYNC}{context}{CANDIDATE}sync complete in 6.391s\nrunning on 127.0.0.1 sh -c 'echo hi'\ncommand complete in 931ms total=10.124s\n\
             run summary lease=5.064s bootstrap=1.892s sync=6.391s command=931ms total=10.124s end_to_end=16.255s sync_skipped=false exit=0 {steps} command_phases=user-command:931ms\n\
             {details}lease cleanup stopped=true policy=auto lease=cbx_804f90dd28c2 slug={slug}\n",
            provisioning(slug, false)
        ),
    );
    Done::of(session.command(&["warmup", "--slug", slug]).output().unwrap()).exits(0);
    let timing = fill(
        "{\"provider\":\"vast\",\"leaseId\":\"cbx_4b6cb0eeb123\",\"slug\":\"SLUG\",\"leaseMs\":4,\"bootstrapMs\":759,\"syncMs\":2535,\
         \"syncPhases\":[{\"name\":\"manifest\",\"ms\":15},{\"name\":\"preflight\"},{\"name\":\"fingerprint\",\"ms\":2},{\"name\":\"rsync\",\"ms\":1152}],\
         \"syncSkipped\":false,\"commandMs\":365,\"commandPhases\":[{\"name\":\"user-command\",\"ms\":365}],\"totalMs\":3999,\"endToEndMs\":4431,\
         \"exitCode\":0,\"runStatus\":\"succeeded\",\"runId\":\"run_aeda7735922c\",\"machineType\":\"RTX 5090\",\"repoPath\":\"REPO\",\
         \"workdir\":\"WORK/cbx_4b6cb0eeb123/repo\",\"stopCommand\":\"crabbox stop --provider vast --target linux --vast-api-url API --id SLUG\",\"idleTimeout\":\"30m0s\"}\n",
    );
    session.says(
        &["run", "--id", slug, "--timing-json", "--", "sh", "-c", "pwd; ls -A; echo $CRABBOX_LEASE_ID $CRABBOX_SLUG $CRABBOX_RUN_ID; echo err >&2"],
        0,
        &format!("WORK/cbx_4b6cb0eeb123/repo\n.crabbox\n.gitignore\na.txt\ndist\nsrc\ncbx_4b6cb0eeb123 {slug} run_aeda7735922c\n"),
        &format!(
            "{OWNER}{SYNC}{context}{CANDIDATE}sync complete in 2.535s\nrunning on 127.0.0.1 sh -c 'pwd; ls -A; echo $CRABBOX_LEASE_ID $CRABBOX_SLUG $CRABBOX_RUN_ID; echo err >&2'\n\
             err\ncommand complete in 365ms total=4s\n\
             run summary lease=4ms bootstrap=760ms sync=2.535s command=365ms total=4s end_to_end=4.431s sync_skipped=false exit=0 {steps} command_phases=user-command:365ms\n\
             {details}workspace owner released\n{timing}"
        ),
    );
    let next = |end: &str| fill(&format!("  next: crabbox {end}\n"));
    let common = "--provider vast --target linux --vast-api-url API --id SLUG";
    session.says(
        &["run", "--id", slug, "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
        3,
        "out\n",
        &format!(
            "{OWNER}{context}running on 127.0.0.1 sh -c 'echo out; echo err >&2; exit 3'\nerr\ncommand complete in 455ms total=4.936s\n\
             run summary lease=4ms bootstrap=914ms sync=0s command=455ms total=4.936s end_to_end=5.416s sync_skipped=true exit=3 \
             command_phases=user-command:455ms blocked_stage=unknown retry_likely=unknown\n{details}failure digest\n  phase: user-command\n  \
             area: user_command\n  retryable: unknown\n  run_history: unavailable; use lease-based recovery commands below\n  \
             failed_phase: user-command\n  observed_phases: user-command\n{}{}{}  tail stderr:\n  err\nstdout tail last 1 lines:\nout\n\
             stderr tail last 1 lines:\nerr\nworkspace owner released\nremote command exited 3\n",
            next(&format!("ssh {common}")),
            next(&format!("run {common} --no-sync -- sh -c 'echo out; echo err >&2; exit 3'")),
            next(&format!("stop {common}")),
        ),
    );
    std::fs::write(session.desk.repo().join("a.txt"), "One\n").unwrap();
    let dirty = CANDIDATE.replace("16 B", "16 B dirty_delta=1 files, 4 B");
    session.says(
        &["run", "--id", slug, "--sync-only"],
        0,
        "synced WORK/cbx_4b6cb0eeb123/repo\n",
        &format!(
            "{OWNER}{SYNC}{context}{dirty}sync complete in 3.162s\n\
             run summary lease=6ms bootstrap=424ms sync=3.162s command=0s total=3.377s end_to_end=3.851s sync_skipped=false exit=0 {steps}\n\
             workspace owner released\n"
        ),
    );
}

#[test]
fn what_is_not_ours_and_what_has_expired() {
    let session = Session::new();
    let made =
        session.sim.control("POST", "/_sim/instances", r#"{"label":"hand made","actual_status":"running"}"#);
    session.sim.control(
        "POST",
        "/_sim/instances",
        r#"{"label":"cbx1|cbx_aaaaaaaaaaaa|other-box|ready","actual_status":"running"}"#,
    );
    session.sim.control("POST", "/_sim/instances", r#"{"actual_status":"running"}"#);
    let number = made["id"].to_string();
    let owned = "700013 other-box ready RTX 3090 127.0.0.1 lease=cbx_aaaaaaaaaaaa slug=other-box keep=false target=linux\n";
    session.says(&["list"], 0, owned, "");
    session.says(
        &["list", "--all"],
        0,
        &format!(
            "700011 hand made ready RTX 3090 127.0.0.1 lease= slug=- keep= target=\n{owned}\
             700012 700012 ready RTX 3090 127.0.0.1 lease= slug=- keep= target=\n"
        ),
        "",
    );
    session.says(
        &["status", "--id", &number],
        2,
        "",
        &format!("refusing to operate on non-Crabbox Vast instance {number}\n"),
    );
    session.says(&["cleanup", "--dry-run"], 0, "", "delete server id=700013 name=other-box\n");
    session.says(
        &["cleanup"],
        2,
        "",
        "delete server id=700013 name=other-box\nlease=cbx_aaaaaaaaaaaa has no local Vast claim; refusing destructive cleanup\n",
    );
    session.says(
        &["run", "--keep-on-failure", "--slug", "kof", "--no-sync", "--", "sh", "-c", "echo bad >&2; exit 9"],
        9,
        "",
        &format!(
            "{}{OWNER}{}running on 127.0.0.1 sh -c 'echo bad >&2; exit 9'\nbad\ncommand complete in 1.265s total=2.072s\n\
             run summary lease=3.905s bootstrap=403ms sync=0s command=1.265s total=2.072s end_to_end=6.4s sync_skipped=true exit=9 \
             command_phases=user-command:1.264s blocked_stage=unknown retry_likely=unknown\n{}failure digest\n  phase: user-command\n  \
             area: user_command\n  retryable: unknown\n  run_history: unavailable; use lease-based recovery commands below\n  \
             failed_phase: user-command\n  observed_phases: user-command\n  next: crabbox ssh --provider vast --target linux --vast-api-url API --id kof\n  \
             next: crabbox run --provider vast --target linux --vast-api-url API --id kof --no-sync -- sh -c 'echo bad >&2; exit 9'\n  \
             next: crabbox stop --provider vast --target linux --vast-api-url API --id kof\n  tail stderr:\n  bad\n\
             keep-on-failure: kept lease=cbx_ed37cb70fe60 slug=kof expires=2026-11-23T22:29:48Z idle_timeout=30m0s ttl=1h30m0s\n\
             inspect: crabbox inspect --provider vast --id kof\nssh: crabbox ssh --provider vast --id kof\nssh-direct: SSH-LINE\n\
             stop: crabbox stop --provider vast kof\nstdout tail: empty\nstderr tail last 1 lines:\nbad\nworkspace owner released\nremote command exited 9\n",
            provisioning("kof", false),
            CONTEXT.replace("SLUG", "kof"),
            DETAILS.replace("SLUG", "kof"),
        ),
    );
}

/// Whatever is taken for ours is told in the list of differences, and the marks it is known by are no lines of crabbox's.
#[test]
fn every_line_of_ours_is_explained() {
    let told = include_str!("../../../../docs/differences.md");
    for (mark, words) in OURS.iter().chain(ENDS) {
        assert!(told.contains(words), "{mark:?} is explained nowhere by {words:?}");
    }
}
