//! The lines that those who follow the supervisor get: progress, and at last `Ready` or `Failed`.

use lnplaylive_core::progress::{Line, Progress, Step};
use tokio::sync::watch;
use tracing::info;

/// The lines so far.
#[derive(Debug)]
pub(super) struct Journal(watch::Sender<Vec<Line>>);

impl Journal {
    /// An empty journal.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    /// Adds and logs a line of progress.
    pub(super) fn progress(&self, step: Step, done: usize, total: usize, message: impl Into<String>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let progress = Progress::new(step, count(done), count(total), message);
        info!(step = progress.step, done, total, message = progress.message);
        self.add(Line::Progress(progress));
    }

    /// Adds the last line.
    pub(super) fn finish(&self, line: Line) {
        self.add(line);
    }

    fn add(&self, line: Line) {
        self.0.send_modify(|lines| {
            if !lines.last().is_some_and(is_last) {
                lines.push(line);
            }
        });
    }

    /// The line that was added last.
    pub(super) fn last(&self) -> Option<Line> {
        self.0.borrow().last().cloned()
    }

    /// A reader that begins with the first line.
    pub(super) fn follow(&self) -> Follower {
        Follower { lines: self.0.subscribe(), read: 0 }
    }
}

/// A reader of the journal.
#[derive(Debug)]
pub(super) struct Follower {
    lines: watch::Receiver<Vec<Line>>,
    read: usize,
}

impl Follower {
    /// Waits for more lines; `None` after the last one, and when the supervisor is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<Line>> {
        loop {
            let news = self.lines.borrow_and_update().get(self.read..).unwrap_or_default().to_vec();
            if !news.is_empty() {
                self.read += news.len();
                return Some(news);
            }
            let finished = self.lines.borrow().last().is_some_and(is_last);
            if finished || self.lines.changed().await.is_err() {
                return None;
            }
        }
    }
}

fn is_last(line: &Line) -> bool {
    !matches!(line, Line::Progress(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str) -> Line {
        Line::Failed { message: message.to_owned() }
    }

    #[tokio::test]
    async fn a_follower_gets_every_line_up_to_the_last() {
        let journal = Journal::new();
        journal.progress(Step::StartBitcoind, 0, 1, "one");
        let mut early = journal.follow();
        assert_eq!(early.next().await.map(|lines| lines.len()), Some(1));
        journal.progress(Step::StartNodes, 0, 1, "two");
        journal.finish(failed("three"));
        journal.finish(failed("nothing comes after the last line"));
        assert_eq!(early.next().await.map(|lines| lines.len()), Some(2));
        assert_eq!(early.next().await, None);
        let all = journal.follow().next().await.expect("lines");
        assert_eq!(all.last(), Some(&failed("three")));
    }
}
