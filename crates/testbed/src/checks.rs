//! Macros for tests that run on several implementations.

/// Turns each check, an `async fn(Flavor)`, into a test on real daemons and one on simulated ones: `real::NAME`, `simulated::NAME`.
#[macro_export]
macro_rules! on_both_flavors {
    ($($check:ident),+ $(,)?) => {
        mod real { $(#[tokio::test(flavor = "multi_thread")] async fn $check() {
            super::$check($crate::Flavor::Real).await;
        })+ }
        mod simulated { $(#[tokio::test(flavor = "multi_thread")] async fn $check() {
            super::$check($crate::Flavor::Simulated).await;
        })+ }
    };
}

/// Turns each check, an `async fn(Kind)`, into a test on an LXD server and one on an Incus server: `lxd::NAME`, `incus::NAME`.
#[macro_export]
macro_rules! on_both_servers {
    ($($check:ident),+ $(,)?) => {
        mod lxd { $(#[tokio::test(flavor = "multi_thread")] async fn $check() {
            super::$check($crate::lxd::Kind::Lxd).await;
        })+ }
        mod incus { $(#[tokio::test(flavor = "multi_thread")] async fn $check() {
            super::$check($crate::lxd::Kind::Incus).await;
        })+ }
    };
}
