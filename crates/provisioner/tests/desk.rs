//! Actions of the organiser's desk over SSH: what each answer, and each silence, is taken for.

mod support;

use lnplaylive_core::desk::{Action, Answer, Did, Refusal};
use lnplaylive_core::order::Handover;
use provisioner::DeskError;
use sim_lxd::SshFault;
use support::{GOOD, World, handover, order, until};

/// An `lnplay` that keeps the action that it reads, and runs what is in a file.
fn with_desk() -> String {
    let desk = r#"if [ "$1" = desk ]; then cat >"$HOME/asked"; exec sh "$HOME/desk"; fi"#;
    GOOD.replacen('\n', &format!("\n{desk}\n"), 1)
}

#[tokio::test]
async fn an_action_goes_to_the_environment_and_its_answer_comes_back() {
    let world = World::new(&with_desk()).await;
    let placement = world.provision(&order(1)).await.expect("provisioned");
    let project = placement.project.to_string();
    let home = world.remote().instance_dir(&project).expect("an instance");
    let handover = handover(placement);
    let answers = |script: &str| std::fs::write(home.join("desk"), script).expect("written");
    let action = Action::Mine { blocks: 3, request: None };

    answers(
        r#"echo '{"answer":"done","did":{"what":"mined","blocks":3},"overview":{"block_height":1,"blocks_paused":true,"nodes":[]}}'; echo log >&2"#,
    );
    let (answer, calls) = world.count(world.provisioner.desk(&handover, &action)).await;
    assert!(matches!(&answer, Ok(Answer::Done { did: Did::Mined { blocks: 3 }, .. })), "{answer:?}");
    assert_eq!(calls, 0, "the remote itself is not asked");
    let asked = std::fs::read_to_string(home.join("asked")).expect("it was asked");
    assert_eq!(asked, r#"{"action":"mine","blocks":3}"#);

    answers(r#"echo '{"answer":"refused","reason":"node_off","message":"off"}'"#);
    let answer = world.provisioner.desk(&handover, &action).await;
    assert!(matches!(&answer, Ok(Answer::Refused { reason: Refusal::NodeOff, .. })), "{answer:?}");

    // As images from before there was a desk say it.
    answers(
        "echo 'ERROR this account can run `lnplay up -`, `lnplay status` and `lnplay down`, and nothing else' >&2; exit 1",
    );
    assert_eq!(world.provisioner.desk(&handover, &action).await, Err(DeskError::TooOld));
    let old = Handover { site: None, ..handover.clone() };
    assert_eq!(world.provisioner.desk(&old, &action).await, Err(DeskError::TooOld), "a record without a key");

    for (script, expected) in [
        ("echo rubbish", "cannot be read"),
        ("exit 3", "cannot be read"),
        (r#"echo '{"answer":"new","version":2}'"#, "version 2"),
        // More than is read of any answer.
        ("head -c 3000000 /dev/zero", "cannot be read"),
    ] {
        answers(script);
        match world.provisioner.desk(&handover, &action).await {
            Err(DeskError::NoAnswer(reason)) => assert!(reason.contains(expected), "{script}: {reason}"),
            other => panic!("{script}: {other:?}"),
        }
    }
    for fault in [SshFault::Closed, SshFault::OtherHostKey] {
        world.remote().faults().on_ssh(fault);
        let answer = world.provisioner.desk(&handover, &action).await;
        assert!(
            matches!(&answer, Err(DeskError::NoAnswer(reason)) if reason.contains("no way in")),
            "{answer:?}"
        );
        world.remote().faults().clear();
    }
    let nowhere = Handover { remote: "gone".into(), ..handover };
    assert!(matches!(world.provisioner.desk(&nowhere, &action).await, Err(DeskError::NoAnswer(_))));
    until("no ssh is left", || support::ssh_processes(world.address).is_empty()).await;
}
