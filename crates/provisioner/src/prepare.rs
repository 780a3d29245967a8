//! Environments that are prepared for orders to come: created and booted, and nothing more. `lnplay up` runs once an order has
//! taken one over, so no key, rune or id of a node is older than its order.

use lnplaylive_core::order::Placement;
use lnplaylive_core::tags::Stage;
use lnplaylive_core::{OrderId, ProjectName};

use crate::{Error, Provisioner, Removal, Size, make_instance, project, ssh};

/// Hours that an instance is made for: the least that is sold. An order for more lets it grow.
pub const PREPARED_HOURS: u32 = 1;

impl Provisioner {
    /// Makes an environment of so many nodes in a placement, under an id of its own, and returns once its instance lets us in.
    pub async fn prepare(&self, id: OrderId, node_count: u32, placement: &Placement) -> Result<(), Error> {
        let remote = self.remote(&placement.remote)?;
        let client = &remote.client().await?;
        let member = placement.member.as_deref();
        let size = Size { node_count, hours: PREPARED_HOURS };
        let made = async {
            make_instance(remote, client, id, Stage::Prepared, size, placement).await?;
            let host = remote.host(client, member, placement.project).await?;
            ssh::wait_for(&remote.settings, &host, placement).await
        };
        tokio::select! {
            result = made => result,
            lost = remote.watch_member(client, member) => Err(lost),
        }
    }

    /// Removes what was prepared under this id, unless an order has taken it over. Succeeds if it is not there.
    pub async fn give_up(&self, remote: &str, id: OrderId, project: ProjectName) -> Result<Removal, Error> {
        let client = self.remote(remote)?.client().await?;
        project::remove_prepared(&client, id, project).await
    }
}
