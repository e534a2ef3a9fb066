//! Rewrites from graph to graph, in the order in which they run. Each is checked by `verify` afterwards.

mod dce;

pub use dce::dce;

use super::ir::Graph;
use super::verify::verify;

type Pass = fn(Graph) -> Graph;

/// Runs all passes.
///
/// # Panics
/// Where a pass leaves a broken graph, which is a mistake in that pass.
pub fn run(mut g: Graph) -> Graph {
    const PASSES: &[(&str, Pass)] = &[("dce", dce)];
    for (name, pass) in PASSES {
        g = pass(g);
        verify(&g).unwrap_or_else(|e| panic!("pass {name} broke the graph: {e}\n{g}"));
    }
    g
}
