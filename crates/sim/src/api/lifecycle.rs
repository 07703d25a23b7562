//! How instances move on the clock: the timeline of each, and the one loop that plays them all in order.

use super::World;
use super::record::Instance;
use std::time::Duration;

/// Something that will happen to an instance at a known time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The container exists; the proxy address is published.
    Created,
    /// The image is being fetched, with this message.
    Loading(String),
    /// The container runs.
    Running,
    /// The container has ended.
    Exited,
    /// Nothing is left to be shown.
    Forgotten,
}

/// The boot as parts of its whole: no state, created, loading.
const BOOT_PARTS: [u32; 3] = [3, 2, 40];
const BOOT_WHOLE: u32 = 45;

impl World {
    /// Plays everything that is due by `now`, in the order of simulated time. Time never goes back.
    pub fn advance_to(&mut self, now: Duration) {
        let target = self.now.max(now + self.skew);
        while let Some((at, event)) = self.next_event().filter(|(at, _)| *at <= target) {
            self.accrue(at);
            match event {
                Event::Step(id) => self.play(id),
                Event::CreditSpent => self.credit_spent(),
            }
        }
        self.accrue(target);
    }

    /// When something will happen next, if nobody calls, as time on the caller's clock.
    pub fn next_event_at(&self) -> Option<Duration> {
        self.next_event().map(|(at, _)| at.saturating_sub(self.skew))
    }

    fn next_event(&self) -> Option<(Duration, Event)> {
        let step = self
            .instances
            .values()
            .filter_map(|instance| Some((instance.timeline.front()?.0, Event::Step(instance.id))))
            .min_by_key(|(at, _)| *at);
        let credit = self.credit_lasts_until().map(|at| (at, Event::CreditSpent));
        step.into_iter().chain(credit).min_by_key(|(at, _)| *at)
    }

    /// Applies the first step of an instance's timeline.
    fn play(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some((_, step)) = instance.timeline.pop_front() else { return };
        match step {
            Step::Created => {
                instance.actual = Some("created".to_owned());
                instance.ssh_published = true;
            }
            Step::Loading(message) => {
                instance.actual = Some("loading".to_owned());
                instance.message = Some(message);
            }
            Step::Running => self.run(id),
            Step::Exited => {
                halt(instance, "exited");
                self.host.stop(id);
            }
            Step::Forgotten => {
                self.instances.remove(&id);
            }
        }
    }

    pub(super) fn run(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.direct_port = Some(self.host.start(&instance.container()));
        instance.actual = Some("running".to_owned());
        instance.current = "running".to_owned();
        instance.message = Some(format!("success, running {}/ssh", instance.image));
        instance.running_since = Some(self.now);
        instance.ssh_ready_at = Some(self.now + self.settings.ssh_lag);
    }

    /// The steps from a create to `running`.
    pub(super) fn schedule_boot(&mut self, id: u64) {
        let (now, part) = (self.now, self.settings.boot / BOOT_WHOLE);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let created = now + part * BOOT_PARTS[0];
        instance.timeline.push_back((created, Step::Created));
        load(instance, created + part * BOOT_PARTS[1], part * BOOT_PARTS[2]);
    }

    /// The steps of a start: still `exited` for a while, then a shorter boot, because the image is there.
    pub(super) fn schedule_start(&mut self, id: u64) {
        let (now, part) = (self.now, self.settings.boot / BOOT_WHOLE);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.timeline.clear();
        instance.ssh_published = true;
        instance.intended = "running".to_owned();
        instance.next = "running".to_owned();
        let loading = now + part * 5;
        instance.timeline.push_back((loading, Step::Loading(format!("Starting {}", instance.image))));
        instance.timeline.push_back((loading + part * 10, Step::Running));
    }

    /// A reboot (`rebooting`) keeps the files, a recycle (`recycling`) does not; both keep the GPU.
    pub(super) fn schedule_restart(&mut self, id: u64, meanwhile: &str) {
        let (now, part) = (self.now, self.settings.boot / BOOT_WHOLE);
        self.host.stop(id);
        if meanwhile == "recycling" {
            self.host.wipe(id);
        }
        let Some(instance) = self.instances.get_mut(&id) else { return };
        halt(instance, meanwhile);
        instance.current = "running".to_owned();
        instance.timeline.clear();
        if meanwhile == "recycling" {
            load(instance, now + part * 5, part * 20);
        } else {
            instance.timeline.push_back((now + part * 10, Step::Running));
        }
    }

    /// The steps of a stop: the wish at once, the state later.
    pub(super) fn schedule_stop(&mut self, id: u64) {
        let at = self.now + self.settings.stop_lag;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.intended = "stopped".to_owned();
        instance.next = "stopped".to_owned();
        instance.queued = false;
        instance.timeline.clear();
        if instance.actual.as_deref() != Some("exited") {
            instance.timeline.push_back((at, Step::Exited));
        }
    }

    /// The machine goes to a higher bid: the container ends, the disk stays and is billed.
    pub(super) fn outbid(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        halt(instance, "exited");
        instance.intended = "stopped".to_owned();
        instance.next = "stopped".to_owned();
        instance.timeline.clear();
        instance.outbid = true;
        self.host.stop(id);
    }

    /// Ends a contract: the bill at once, the record later; the machine comes back under a new offer id.
    pub(super) fn end_contract(&mut self, id: u64) {
        let (now, linger) = (self.now, self.settings.destroy_linger);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.deleted_at = Some(now);
        instance.current = "unloaded".to_owned();
        instance.intended = "stopped".to_owned();
        instance.next = "stopped".to_owned();
        instance.direct_port = None;
        instance.timeline.clear();
        instance.timeline.push_back((now + linger * 2, Step::Forgotten));
        let returned = (instance.holds_offer && !instance.relet).then(|| instance.offer.clone());
        if let Some(mut offer) = returned {
            offer.id = self.new_offer_id();
            offer.rentable = true;
            offer.rented = false;
            self.offers.push(offer);
        }
        self.destroyed += 1;
        self.host.destroy(id);
    }

    /// Ends every container, as the end of a simulator does; the books stay as they are.
    pub fn close(&mut self) {
        for id in self.instances.keys() {
            self.host.destroy(*id);
        }
        for instance in self.instances.values_mut() {
            instance.timeline.clear();
        }
    }

    /// Without credit everything stops at once (Vast API, documented).
    fn credit_spent(&mut self) {
        self.account.credit = self.account.credit.min(0.0);
        for instance in self.instances.values_mut().filter(|instance| instance.deleted_at.is_none()) {
            if instance.actual.as_deref() == Some("running") {
                self.host.stop(instance.id);
            }
            halt(instance, "exited");
            instance.intended = "stopped".to_owned();
            instance.next = "stopped".to_owned();
            instance.timeline.clear();
        }
    }
}

enum Event {
    Step(u64),
    CreditSpent,
}

/// The messages of an image pull, spread over its duration, and `running` at its end.
fn load(instance: &mut Instance, from: Duration, takes: Duration) {
    let layer = format!("{:012x}", instance.id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
    let messages = [
        format!("{layer}: Pulling fs layer"),
        format!("{layer}: Download complete"),
        format!("{layer}: Pull complete"),
        format!("Status: Downloaded newer image for {}\n", instance.image),
    ];
    let step = takes / messages.len() as u32;
    for (index, message) in (0_u32..).zip(messages) {
        instance.timeline.push_back((from + step * index, Step::Loading(message)));
    }
    instance.timeline.push_back((from + takes, Step::Running));
}

/// Takes the container down in the record.
pub(super) fn halt(instance: &mut Instance, actual: &str) {
    instance.actual = Some(actual.to_owned());
    instance.current = "stopped".to_owned();
    instance.direct_port = None;
    instance.ssh_ready_at = None;
    instance.running_since = None;
}
