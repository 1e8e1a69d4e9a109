//! Writes copies of `turn.rs` that each break one rule. A model that still passes with one of them checks nothing.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A name, text of `turn.rs`, and what is there instead. Text that is not found exactly once ends the build: the
/// mutant has to be written anew then, not forgotten.
const MUTANTS: &[(&str, &str, &str)] = &[
    ("no_fence_in_go_away", "self.count(seat);\n        fence(Ordering::SeqCst);\n", "self.count(seat);\n"),
    (
        "no_fence_in_sleep",
        "self.is_standby_asleep.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n",
        "self.is_standby_asleep.store(true, Ordering::Relaxed);\n",
    ),
    ("sleeps_without_a_look", "if !has_changed() {", "_ = has_changed;\n        {"),
    (
        "looks_before_it_says_so",
        "self.is_standby_asleep.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n        \
         let has_changed = || seen.iter().enumerate().any(|(seat, &seen)| self.sequence(seat) != seen);\n        \
         if !has_changed() {",
        "let has_changed = seen.iter().enumerate().any(|(seat, &seen)| self.sequence(seat) != seen);\n        \
         self.is_standby_asleep.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n        \
         if !has_changed {",
    ),
    (
        "rings_before_it_says_so",
        "self.is_standby_asleep.store(false, Ordering::Relaxed);\n        self.standby.ring();",
        "self.standby.ring();\n        self.is_standby_asleep.store(false, Ordering::Relaxed);",
    ),
    ("wakes_nobody", "            self.wake_standby();\n", "            _ = Self::wake_standby;\n"),
    ("same_epoch", "        self.epoch += 1;\n", ""),
    (
        "take_without_turn",
        "        desk.pass_to(Poller::App(seat));\n        true\n    }\n\n    /// `seat` goes",
        "        true\n    }\n\n    /// `seat` goes",
    ),
    ("take_from_anybody", "Poller::App(poller) if !is_away(self.sequence(poller)) => return false,\n            ", ""),
    ("never_takes_over", "let is_stuck = desk.poller", "let is_stuck = false && desk.poller"),
    ("parks_unnoted", "            self.parked.push(seat);\n", ""),
    (
        "wakes_poller_without_bell",
        "desk.pass_to(Poller::App(seat));\n        self.seats[seat].bell.ring();",
        "desk.pass_to(Poller::App(seat));",
    ),
    (
        "wakes_helper_without_bell",
        "return false };\n        self.seats[seat].bell.ring();",
        "return false };\n        _ = seat;",
    ),
    ("stays_parked", "self.parked.retain(|&parked| parked != seat);", "_ = seat;"),
    ("ends_without_bells", "self.seats.iter().for_each(|seat| seat.bell.ring());\n", "\n"),
];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let original = root.join("../../src/worker/turn.rs");
    println!("cargo::rerun-if-changed={}", original.display());
    println!("cargo::rerun-if-changed=build.rs");
    let text = fs::read_to_string(&original).expect("turn.rs is readable");
    let models = root.join("src");
    let mut modules = String::new();
    for (name, rule, instead) in MUTANTS {
        assert_eq!(text.matches(rule).count(), 1, "{name}: turn.rs must have this once:\n{rule}");
        let path = out.join(format!("{name}.rs"));
        fs::write(&path, text.replace(rule, instead)).expect("OUT_DIR is writable");
        modules += &module(name, "sync", &path, &models);
    }
    modules += &module("forgetful_bell", "sync::forgetful", &original, &models);
    fs::write(out.join("mutants.rs"), modules).expect("OUT_DIR is writable");
}

/// The models once more, around another `turn`.
fn module(name: &str, sync: &str, turn: &Path, models: &Path) -> String {
    let file = |name: &str, path: &Path| format!("    #[path = {path:?}]\n    pub mod {name};\n");
    let files = [file("turn", turn), file("sleep", &models.join("sleep.rs")), file("world", &models.join("world.rs"))];
    format!("#[allow(dead_code, clippy::all)]\nmod {name} {{\n    use crate::{sync} as sync;\n{}}}\n", files.concat())
}
