// y = x * sigmoid(gate), with GATES vectors of gate per row: as many as x has, or one value for all of them.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> gate: array<V>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        let g = gate[id.z * GATES + id.x % GATES];
        // The clamp keeps exp finite.
        y[id.z * N + id.x] = x[id.z * N + id.x] / (V(1.0) + exp(min(-g, V(80.0))));
    }
}
