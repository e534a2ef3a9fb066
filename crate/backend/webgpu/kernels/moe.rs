//! The kernels of mixtures of experts. Which experts a token takes stays on the GPU: grids do not depend on it.

use super::super::wgsl::Const::{B, U};
use super::super::wgsl::assemble;
use super::{Kernel, Matrix, Read, THREADS, Tuning, Write, by_vector, lanes, quant, value};

pub fn moe_route(n_expert: usize, n_used: usize, tuning: Tuning) -> Kernel {
    let threads = if tuning.software { 8 } else { 64 };
    let consts = [("EXPERTS", U(n_expert)), ("USED", U(n_used)), ("WG", U(threads))];
    let source = assemble("moe_route", &[], &consts);
    Kernel { name: "moe_route", source, bind: &[Read, Write], grid: [1, 1], rows: 1 }
}

/// How a token's experts are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    pub n_expert: usize,
    pub n_used: usize,
    /// x is one row for all experts of a token, not one for each.
    pub shared_x: bool,
}

/// `m` holds the rows of all experts, or some of them.
pub fn moe_matmul(m: Matrix, e: Experts, tuning: Tuning) -> Kernel {
    let rows = m.total_rows / e.n_expert;
    let mut consts = m.consts();
    consts.extend([("EXPERTS", U(e.n_expert)), ("USED", U(e.n_used)), ("Y_ROWS", U(rows)), ("SHARED", B(e.shared_x))]);
    let (name, libs, per_group) = if m.in_runs() {
        // On a software adapter a thread takes whole rows, several of them for each x that it loads.
        let lanes = if tuning.software { 1 } else { lanes(m.cols / 32) };
        let (groups, per_thread) = if tuning.software { (16, 4) } else { (64 / lanes, 2) };
        consts.extend([("LANES", U(lanes)), ("GROUPS", U(groups)), ("NR", U(per_thread))]);
        ("moe_matmul", [quant(m.dtype), vec!["dot"]].concat(), groups * per_thread)
    } else {
        ("moe_matmul_any", value(m.dtype), THREADS)
    };
    let grid = [rows.div_ceil(per_group) as u32, e.n_used as u32];
    Kernel { name, source: assemble(name, &libs, &consts), bind: &[Read, Read, Read, Write], grid, rows: 1 }
}

pub fn moe_sum(cols: usize, n_used: usize) -> Kernel {
    by_vector("moe_sum", cols, &[], &[("USED", U(n_used))], &[Read, Read, Write])
}
