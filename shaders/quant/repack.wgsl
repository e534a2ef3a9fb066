// Repacks the blocks of tiles of 16 rows from the file's layout to planes: field by field, each of all blocks of the
// tile. One word per thread. The tiles are at the start of both bindings.
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;

fn byte_at(i: u32) -> u32 { return (raw[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let word = (wid.x + wid.y * GRID_X) * 64u + tid;
    if (word >= arrayLength(&packed)) {
        return;
    }
    let tile = word * 4u / TILE_BYTES * TILE_BYTES;
    var made = 0u;
    for (var i = 0u; i < 4u; i++) {
        made |= byte_at(tile + source(word * 4u + i - tile)) << (i * 8u);
    }
    packed[word] = made;
}
