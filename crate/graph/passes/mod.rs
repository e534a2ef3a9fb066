//! Rewrites from graph to graph, in the order in which they run. Each is checked by `verify` afterwards.

mod attention;
mod dce;
mod delta;
mod edit;
mod matmul;
mod norm;
mod residual;

pub use dce::dce;

use super::ir::Graph;
use super::rules::FuseRules;
use super::verify::verify;

type Pass = fn(Graph, &FuseRules) -> Graph;

/// The passes that every plan goes through.
///
/// # Panics
/// Where a pass leaves a broken graph, which is a mistake in that pass.
pub fn run(g: Graph) -> Graph {
    checked("dce", dce(g))
}

/// Fuses ops for backends on which starting one costs more than the work of a small one.
///
/// ```text
/// %1 = rms_norm %0 n                     %1 = fused_matmul %0 n q k v norm
/// %2 = matmul %1 q ... %4 = matmul %1 v  %2 = slice %1 ... %4 = slice %1
/// ```
///
/// # Panics
/// Where a pass leaves a broken graph, which is a mistake in that pass.
pub fn fuse(mut g: Graph, rules: &FuseRules) -> Graph {
    const PASSES: &[(&str, Pass)] = &[
        ("l2_norms", delta::l2_norms),
        ("gates", attention::gates),
        ("biases", matmul::biases),
        ("glus", matmul::glus),
        ("gated_norms", norm::gated_norms),
        ("sums", residual::sums),
        ("merge", matmul::merge),
        ("norms", norm::norms),
        ("rope_stores", attention::rope_stores),
    ];
    for (name, pass) in PASSES {
        g = checked(name, pass(g, rules));
    }
    g
}

fn checked(pass: &str, g: Graph) -> Graph {
    verify(&g).unwrap_or_else(|e| {
        panic!(
            "pass {pass} broke the graph: {e}
{g}"
        )
    });
    g
}
