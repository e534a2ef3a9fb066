//! A backend's parameters for the passes that fuse ops.

/// What the kernels of a backend need and can do. The graph itself knows no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuseRules {
    /// Columns of a matrix that a fused matmul reads at a time: matrices whose rows are not a multiple of it stay alone.
    pub run: usize,
    /// The most matrices of one fused matmul.
    pub max_parts: usize,
    /// Values that gated norms and rope stores read and write at a time: what is not a multiple of it is not fused.
    pub vector: usize,
    /// Whether the norm before the head is fused into it, as other norms are.
    pub head_norm: bool,
    /// Whether a `norm_add` may run together with the node after it: its operands then live until that one is over.
    pub norm_add_with_next: bool,
}
