// The values that change from step to step.
struct Step {
    tokens: u32,
    outputs: u32,
    segments: u32,
    // The most positions that a token of the step sees, without windows.
    keys: u32,
    // What `sample` reads.
    sampling: array<vec4<u32>, 3>,
    segment: array<Segment, MAX_SEGMENTS>,
    // Workgroups along z that ran before, where a dispatch runs in parts. A kernel that counts from there can.
    skipped: u32,
}
// Consecutive tokens of one sequence. Its recurrent states are read from slot `before - 1`, or are zeros if that is 0;
// those after each of its last `kept` tokens go to the slots of `after`.
struct Segment {
    first: u32,
    tokens: u32,
    outputs: u32,
    before: u32,
    kept: u32,
    // The coordinates of its tokens, as `Place` in Rust says it.
    behind: u32,
    start: u32,
    width: u32,
    after: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<uniform> now: Step;
