//! A trial: an environment of one node is made on a server, dialled and removed, as an order would be.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lnplaylive_core::catalogue::{Sku, Terms};
use lnplaylive_core::order::{Placement, Policy};
use lnplaylive_core::{Customisation, Event, Order, OrderId, ProjectName, clocks};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::{Candidate, Error, Findings, Member, Placed, Provisioner, Size, choose, keys};

/// Time-out of connecting to a node's port.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Blocks of ports that are passed over where there are so many: a shop that runs takes the lowest.
const SKIPPED_BLOCKS: u32 = 100;

/// The findings about a remote before anything is sold on it.
#[derive(Debug, Clone)]
pub struct Checkup {
    /// Problems of the remote as a whole.
    pub findings: Findings,
    /// Its members; a single server is one without a name. None, if something is wrong with the whole.
    pub members: Vec<Member>,
}

impl Provisioner {
    /// Says what is wrong with a remote as far as it can be seen without making anything there. Enrols where that is
    /// still to be done.
    pub async fn check(&self, remote: &str) -> Result<Checkup, Error> {
        let remote = self.remote(remote)?;
        match remote.load().await {
            Ok(load) => {
                let faults = clocks::check(Timestamp::now(), &[load.clock_ahead]).into_iter().flatten();
                let faults = faults.map(|wrong| wrong.to_string()).collect();
                let findings = Findings { faults, warnings: load.warnings };
                Ok(Checkup { findings, members: load.members })
            }
            Err(Error::Unfit { faults, .. }) => {
                let findings = Findings { faults, warnings: Vec::new() };
                Ok(Checkup { findings, members: Vec::new() })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an environment of one node on a member of a remote (`None`: a single server), dials the node, and removes it
    /// all again. Returns the seconds from nothing to the node's answer.
    ///
    /// Whoever is killed meanwhile leaves a project that the culler removes like any other.
    pub async fn try_out(&self, remote: &str, member: Option<&str>) -> Result<Duration, Error> {
        self.try_out_on(remote, |listed| listed.name.as_deref() == member, &[]).await
    }

    /// As [`Provisioner::try_out`], on whichever member placement would choose, beside what is `reserved`.
    pub async fn try_out_anywhere(&self, remote: &str, reserved: &[Placed]) -> Result<Duration, Error> {
        self.try_out_on(remote, |_| true, reserved).await
    }

    async fn try_out_on(
        &self,
        remote: &str,
        members: impl Fn(&Member) -> bool,
        reserved: &[Placed],
    ) -> Result<Duration, Error> {
        let order = trial_order();
        let placement = self.trial_placement(&order, remote, members, reserved).await?;
        let begin = Instant::now();
        let result = self.trial_run(&order, &placement).await;
        let took = begin.elapsed();
        let removed = self.take_down(order.id, &placement.leftover()).await;
        result?;
        removed.map(|()| took)
    }

    async fn trial_placement(
        &self,
        order: &Order,
        name: &str,
        members: impl Fn(&Member) -> bool,
        reserved: &[Placed],
    ) -> Result<Placement, Error> {
        let remote = self.remote(name)?;
        let mut report = remote.report().await;
        if let Ok(load) = &mut report.load {
            load.members.retain(members);
        }
        let candidate = Candidate { settings: &remote.settings, report: &report };
        let size = Size::from(&order.terms);
        let choice = choose(&[candidate], size, reserved, &[], SKIPPED_BLOCKS)
            .map_err(|no_room| Error::Unfit { remote: name.to_owned(), faults: vec![no_room.to_string()] })?;
        let ends = Timestamp::now() + SignedDuration::from_hours(1);
        Ok(Placement {
            remote: choice.remote,
            member: choice.member,
            project: ProjectName::new(ends, order.id).expect("times from now on can be written"),
            ports: choice.ports,
            address: choice.address,
            access: keys::generate(),
            prepared: None,
        })
    }

    async fn trial_run(&self, order: &Order, placement: &Placement) -> Result<(), Error> {
        self.bring_up(order, placement).await?;
        let deployed = self.deploy(order, placement, |_| ()).await?;
        // From here, as the gateway would: attendees may reach it in another way.
        let port = *placement.ports.nodes().start();
        let (host, unreachable) = (deployed.host.as_str(), |source: std::io::Error| Error::NodeUnreachable {
            remote: placement.remote.clone(),
            address: format!("{}:{port}", deployed.host),
            source,
        });
        match timeout(DIAL_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(connected) => connected.map(drop).map_err(unreachable),
            Err(_) => Err(unreachable(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

/// An order that nobody has made, for one node.
fn trial_order() -> Order {
    let customisation = Customisation::default();
    let terms = Terms { sku: Sku("trial".into()), node_count: 1, hours: 1, amount_msat: 0, customisation };
    let now = Timestamp::now();
    let order = Order::new(OrderId::random(), terms, now, now);
    order.apply(Event::Paid, now, &Policy::default()).expect("a new order can be paid")
}
