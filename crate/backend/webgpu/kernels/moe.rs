//! The kernels of mixtures of experts. Which experts a token takes stays on the GPU: grids do not depend on it.

use super::super::tuning::Tuning;
use super::super::wgsl::Const::U;
use super::super::wgsl::assemble;
use super::{Kernel, Read, Write, by_vector};
use crate::graph::View;

/// x is a view of whole columns.
pub fn moe_route(n_expert: usize, n_used: usize, x: View, tuning: Tuning) -> Kernel {
    let threads = if tuning.software { 8 } else { 64 };
    let consts = [
        ("EXPERTS", U(n_expert)),
        ("USED", U(n_used)),
        ("WG", U(threads)),
        ("X_STRIDE", U(x.stride)),
        ("X_AT", U(x.at)),
    ];
    let source = assemble("moe_route", &[], &consts);
    Kernel { name: "moe_route", source, bind: vec![Read, Write], grid: [1, 1], rows: 1, z: 1 }
}

pub fn moe_sum(cols: usize, n_used: usize) -> Kernel {
    by_vector("moe_sum", cols, &[], &[("USED", U(n_used))], &[Read, Read, Write])
}
