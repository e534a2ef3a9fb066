// N vectors of the row that the step gives for a token, from vector START on; such a row has FROM vectors.
@group(0) @binding(1) var<storage, read> given: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        y[id.z * N + id.x] = given[id.z * FROM + START + id.x];
    }
}
