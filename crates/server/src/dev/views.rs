//! The templates of the pages of `dev`.

pub(super) use crate::views::Views;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../../../web/pages/dev/", $name)))),*] };
}

pub(super) fn open() -> Views {
    Views::of(embedded!["layout.html", "start.html", "inbox.html", "problem.html"])
}
