//! Terminal output: lines with the time, and a progress bar below them.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lnplaylive_core::progress::Progress;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// The stream for human-readable lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Stdout,
    /// Used if stdout is for a program.
    Stderr,
}

/// The terminal, or a file or pipe in its place. Only terminals show the bar.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Out,
    start: Instant,
    bar: ProgressBar,
    step: String,
}

impl Screen {
    pub(crate) fn new(out: Out, start: Instant) -> Self {
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("         {bar:40.green} {pos:>3}%  {msg}");
        bar.set_style(style.expect("the template is well-formed"));
        Self { out, start, bar, step: String::new() }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: impl Display) {
        // A closed stream must not stop the work.
        self.bar.suspend(|| match self.out {
            Out::Stdout => writeln!(std::io::stdout(), "{text}").ok(),
            Out::Stderr => writeln!(std::io::stderr(), "{text}").ok(),
        });
    }

    /// Prints a line with the time since the start.
    pub(crate) fn event(&self, text: impl Display) {
        self.line(format_args!("{:>5.1} s  {text}", self.start.elapsed().as_secs_f64()));
    }

    /// Prints an invoice with a QR code. Light modules are drawn and dark ones left blank, for light text on a dark terminal.
    pub(crate) fn invoice(&self, bolt11: &str) {
        if self.out == Out::Stderr {
            // The JSON on stdout contains it.
            return;
        }
        self.line(format_args!("\n{bolt11}\n"));
        // QR codes encode capitals more densely.
        match QrCode::with_error_correction_level(bolt11.to_uppercase(), EcLevel::L) {
            Ok(code) => self.line(
                code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
                    + "\n",
            ),
            Err(error) => self.line(format_args!("(no QR code: {error})\n")),
        }
    }

    /// Updates the progress bar; prints a line for each new step.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        if self.bar.is_hidden() && self.step.is_empty() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
        if self.step != progress.step {
            self.step.clone_from(&progress.step);
            self.event(&progress.message);
        }
        self.bar.set_position(progress.done.into());
        self.bar.set_message(progress.message.clone());
    }

    /// Removes the bar.
    pub(crate) fn end_progress(&self) {
        self.bar.finish_and_clear();
    }
}
