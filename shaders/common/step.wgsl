// The values that change from step to step.
struct Step {
    tokens: u32,
    // Position of the first token.
    pos: u32,
    outputs: u32,
    unused: u32,
}
@group(0) @binding(0) var<uniform> now: Step;
