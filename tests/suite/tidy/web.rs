//! The wall between page and worker in `web/src`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::imports::circles;
use super::{files, read};

/// What each side of the package may import, besides itself. The doors of the package, beside the folders, are the page's.
const SIDES: &[(&str, &[&str])] = &[("page", &["shared"]), ("worker", &["shared"]), ("shared", &[])];

/// Which files each file of `web/src` names in an import, types among them, as paths from there.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let name = |path: &Path| path.strip_prefix("web/src").ok().map(|p| p.to_string_lossy().into_owned());
    let of = |path: &PathBuf| {
        let text = read(path);
        let quoted = text.split("from \"").chain(text.split("import(\"")).filter_map(|after| after.split('"').next());
        let found = quoted.filter(|target| target.starts_with('.')).map(|target| {
            let mut at = path.parent().unwrap().to_path_buf();
            for part in Path::new(target).components() {
                match part {
                    Component::ParentDir => drop(at.pop()),
                    Component::Normal(part) => at.push(part),
                    _ => {}
                }
            }
            at
        });
        found.filter_map(|target| name(&target)).collect()
    };
    files("web/src", "ts").iter().map(|path| (name(path).unwrap(), of(path))).collect()
}

#[test]
fn page_and_worker_import_nothing_of_each_other() {
    let side = |file: &str| file.split_once('/').map(|(folder, _)| folder.to_owned());
    let mut seen = 0;
    for (file, targets) in imports() {
        let Some(from) = side(&file) else { continue };
        let (_, allowed) = SIDES.iter().find(|(s, _)| *s == from).unwrap_or_else(|| panic!("{from} is on no side"));
        for target in targets {
            let to = side(&target).unwrap_or_else(|| panic!("{file} imports {target}, a door of the package"));
            assert!(
                to == from || allowed.contains(&to.as_str()),
                "{file} imports {target}: {from} may not import {to}"
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "found only {seen} imports: is the check still looking at the right text?");
}

#[test]
fn no_files_of_the_package_import_each_other_in_a_circle() {
    let imports = imports();
    let by_name = imports.iter().map(|(name, targets)| (name.as_str(), targets.clone())).collect();
    assert_eq!(circles(&by_name), BTreeSet::new());
}
