// x without changes.
fn prepare(tid: u32) {}
fn load_x(t: u32, i: u32, valid: bool) -> vec4<f32> { return x[x_index(t) + i]; }
fn stage_squares(tid: u32) {}
fn factor(t: u32) -> f32 { return 1.0; }
fn keep_x(t: u32, i: u32, first: bool) {}
