// The part that a thread of `gemv` takes at once: a run.
const SPAN: u32 = 1u;
const STEP: u32 = 0u;
alias Part = Ints;
fn load_part(row: u32, i: u32) -> Part { return load_ints(row, i); }
fn part_run(i: u32) -> u32 { return i; }
fn part_low(p: Part, c: u32) -> vec4<u32> { return p.low; }
fn part_high(p: Part, c: u32) -> vec4<u32> { return p.high; }
fn part_scale(p: Part, c: u32) -> vec2<f32> { return p.d; }
fn part_minimum(p: Part, c: u32) -> vec2<f32> { return p.m; }
