//! The remotes, through the provisioner.

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use lnplaylive_core::desk;
use lnplaylive_core::health::Answer;
use lnplaylive_core::order::{Handover, Leftover, Placement};
use lnplaylive_core::{Order, OrderId, ProjectName};
use provisioner::{Deployed, DeskError, Placed, Provisioner, RemoteReport};

use crate::core::interfaces::{OnProgress, RemoteError, Remotes};

fn remote_error(error: &provisioner::Error) -> RemoteError {
    RemoteError { severity: error.severity(), reason: error.chain() }
}

impl Remotes for Provisioner {
    fn poll(&self) -> BoxFuture<'_, Vec<RemoteReport>> {
        self.survey().boxed()
    }

    fn try_out<'a>(
        &'a self,
        remote: &'a str,
        reserved: &'a [Placed],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move {
            let tried = self.try_out_anywhere(remote, reserved).await;
            tried.map(drop).map_err(|e| remote_error(&e))
        }
        .boxed()
    }

    fn follow_moves<'a>(&'a self, reports: &'a [RemoteReport]) -> BoxFuture<'a, ()> {
        self.follow_moves(reports).boxed()
    }

    fn bring_up<'a>(
        &'a self,
        order: &'a Order,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.bring_up(order, placement).await.map_err(|e| remote_error(&e)) }.boxed()
    }

    fn prepare<'a>(
        &'a self,
        id: OrderId,
        node_count: u32,
        placement: &'a Placement,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.prepare(id, node_count, placement).await.map_err(|e| remote_error(&e)) }.boxed()
    }

    fn give_up<'a>(
        &'a self,
        remote: &'a str,
        id: OrderId,
        project: ProjectName,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.give_up(remote, id, project).await.map(drop).map_err(|e| remote_error(&e)) }.boxed()
    }

    fn deploy<'a>(
        &'a self,
        order: &'a Order,
        placement: &'a Placement,
        on_progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<Deployed, RemoteError>> {
        async move { self.deploy(order, placement, on_progress).await.map_err(|e| remote_error(&e)) }.boxed()
    }

    fn hand_over<'a>(
        &'a self,
        order: OrderId,
        placement: &'a Placement,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.hand_over(order, placement, expires_at).await.map_err(|e| remote_error(&e)) }
            .boxed()
    }

    fn extend<'a>(
        &'a self,
        order: OrderId,
        remote: &'a str,
        project: ProjectName,
        expires_at: Timestamp,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.extend(order, remote, project, expires_at).await.map_err(|e| remote_error(&e)) }
            .boxed()
    }

    fn probe<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Answer> {
        self.probe(handover).boxed()
    }

    fn desk<'a>(
        &'a self,
        handover: &'a Handover,
        action: &'a desk::Action,
    ) -> BoxFuture<'a, Result<desk::Answer, DeskError>> {
        self.desk(handover, action).boxed()
    }

    fn take_down<'a>(
        &'a self,
        order: OrderId,
        leftover: &'a Leftover,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.take_down(order, leftover).await.map_err(|e| remote_error(&e)) }.boxed()
    }
}
