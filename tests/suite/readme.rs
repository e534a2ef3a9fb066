//! The README says what runs; the registry knows.

use std::fs;
use std::path::Path;

use pagelm::DType;
use pagelm::arch::REGISTRY;
use pagelm::backend::{Backend, cpu::Cpu};

use crate::common::backends;

const START: &str = "<!-- table: ";
const END: &str = "<!-- end of table -->";

/// The table as it must stand in the README.
fn table() -> String {
    let names: Vec<_> = REGISTRY.iter().map(|(name, _)| format!("`{name}`")).collect();
    let cpu = Cpu::new(1);
    let gpu = backends::gpu(Default::default());
    let list = |b: &dyn Backend| {
        let of: Vec<_> = DType::ALL.iter().filter(|d| b.supports(**d)).map(|d| d.name()).collect();
        of.join(" ")
    };
    assert_eq!(list(&gpu), list(&cpu), "the table has one list for both backends");
    format!("| | |\n| --- | --- |\n| Architectures | {} |\n| Weight types | {} |\n", names.join(" "), list(&cpu))
}

#[test]
fn the_readme_lists_what_the_registry_has() {
    if !backends::gpu_wanted() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(START).and_then(|at| text[at..].find('\n').map(|n| at + n + 1)).expect("the table's start");
    let end = text.find(END).expect("the table's end");
    let (have, want) = (&text[start..end], table());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, format!("{}{want}{}", &text[..start], &text[end..])).unwrap();
    } else {
        assert_eq!(have, want, "run the test with UPDATE_README=1");
    }
}
