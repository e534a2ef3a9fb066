// The grid points of a type are stored after the rows of each part of a weight, two per word. Not in a constant array:
// compilers copy one that is indexed at run time to the private memory of each thread, and lavapipe did not compile
// such a matmul in 100 s. Nor in workgroup memory, which the tiles take, or in a binding of its own, which only these
// types would have.
const GRID: u32 = (HELD * ROW_BYTES + 3u) / 4u;
fn point(n: u32) -> u32 { return (w[GRID + (n >> 1u)] >> ((n & 1u) * 16u)) & 0xffffu; }
fn points(n: vec4<u32>) -> vec4<u32> { return vec4<u32>(point(n.x), point(n.y), point(n.z), point(n.w)); }
