//! Probes of environments that were handed over: what each answer, and each silence, is taken for.

mod support;

use jiff::Timestamp;
use lnplaylive_core::Health;
use lnplaylive_core::health::{Answer, Condition};
use lnplaylive_core::order::Handover;
use lxd_client::Stop;
use provisioner::instance_name;
use sim_lxd::SshFault;
use support::{GOOD, LONG, World, handover, order, until};

/// An `lnplay` that answers `status` with what is in a file.
fn with_status() -> String {
    GOOD.replacen('\n', "\nif [ \"$1\" = status ]; then exec cat \"$HOME/status\"; fi\n", 1)
}

fn condition(answer: Answer) -> Condition {
    Health::new(Condition::Unknown, Timestamp::UNIX_EPOCH).after(answer, Timestamp::UNIX_EPOCH).condition
}

#[tokio::test]
async fn an_environment_says_which_nodes_are_down() {
    let world = World::new(&with_status()).await;
    let placement = world.provision(&order(2)).await.expect("provisioned");
    let project = placement.project.to_string();
    let status = world.remote().instance_dir(&project).expect("an instance").join("status");
    let handover = handover(placement);
    let report = |second: &str| {
        format!(
            r#"{{"version": 1, "phase": "ready", "block_height": 101, "nodes": [
                {{"index": 0, "name": "Alice", "block_height": 101}}, {{"index": 1, "name": "Bruno", "block_height": {second}}}]}}"#
        )
        .replace('\n', "")
    };
    std::fs::write(&status, report("101")).expect("written");
    let (answer, calls) = world.count(world.provisioner.probe(&handover)).await;
    assert_eq!((condition(answer), calls), (Condition::Ok, 0), "the remote itself is not asked");
    std::fs::write(&status, report("null")).expect("written");
    let degraded = condition(world.provisioner.probe(&handover).await);
    assert_eq!(degraded.nodes_down().iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["Bruno"]);
    for (said, expected) in [
        (
            r#"{"event":"failed","message":"the supervisor does not answer"}"#,
            "the supervisor does not answer",
        ),
        (r#"{"version": 9}"#, "version 9"),
        ("Segmentation fault", "something else"),
    ] {
        std::fs::write(&status, said).expect("written");
        match world.provisioner.probe(&handover).await {
            Answer::Unreachable(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{said}: {other:?}"),
        }
    }
    until("no ssh is left", || support::ssh_processes(world.address).is_empty()).await;
}

#[tokio::test]
async fn an_environment_that_does_not_answer_is_told_from_a_remote_that_does_not() {
    let world = World::new(&with_status()).await;
    let placement = world.provision(&order(1)).await.expect("provisioned");
    let (project, instance) = (placement.project.to_string(), instance_name(placement.project));
    let handover = handover(placement);
    let faults = world.remote().faults();
    for fault in [SshFault::Closed, SshFault::OtherHostKey] {
        faults.on_ssh(fault);
        let answer = world.provisioner.probe(&handover).await;
        assert!(matches!(&answer, Answer::Unreachable(reason) if reason.contains("no way in")), "{answer:?}");
        // Neither does its remote.
        faults.on("GET", "/1.0/instances/*", 100, sim_lxd::Fault::DropBefore);
        let answer = world.provisioner.probe(&handover).await;
        assert!(matches!(&answer, Answer::NotAsked(_)), "{answer:?}");
        faults.clear();
    }
    let old = Handover { site: None, ..handover.clone() };
    assert_eq!(world.provisioner.probe(&old).await, Answer::Runs, "a record without a key");
    let nowhere = Handover { remote: "gone".into(), ..handover.clone() };
    assert!(matches!(world.provisioner.probe(&nowhere).await, Answer::NotAsked(_)));

    let operator = support::operator(&world).await;
    operator.stop_instance(&project, &instance, Stop::Force, LONG).await.expect("stopped");
    for handover in [&handover, &old] {
        let answer = world.provisioner.probe(handover).await;
        assert_eq!(answer, Answer::Stopped("its instance is stopped".into()));
    }
    operator.delete_instance(&project, &instance, LONG).await.expect("deleted");
    assert_eq!(world.provisioner.probe(&handover).await, Answer::Stopped("its instance is gone".into()));
}
