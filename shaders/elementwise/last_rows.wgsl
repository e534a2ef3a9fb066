// The last `outputs` rows of each segment of x.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

fn row_of(output: u32) -> u32 {
    var left = output;
    for (var s = 0u; s + 1u < now.segments; s++) {
        if (left < now.segment[s].outputs) {
            return now.segment[s].first + now.segment[s].tokens - now.segment[s].outputs + left;
        }
        left -= now.segment[s].outputs;
    }
    let last = now.segment[now.segments - 1u];
    return last.first + last.tokens - last.outputs + left;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        y[id.z * N + id.x] = x[row_of(id.z) * N + id.x];
    }
}
