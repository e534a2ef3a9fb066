// Reads a whole buffer, neighbours reading neighbours, and keeps a sum so that no read can be left out.
@group(0) @binding(0) var<storage, read> data: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    var s = vec4<u32>(0u);
    for (var i = id.x; i < arrayLength(&data); i += groups.x * 256u) {
        s ^= data[i];
    }
    sums[id.x % arrayLength(&sums)] = s.x ^ s.y ^ s.z ^ s.w;
}
