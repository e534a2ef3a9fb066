// A tile of rows of one expert, as `moe_group` sorted them. y has a row for each expert of each token; x has one per
// token (SHARED), or one for each.
var<private> expert: u32;
var<private> first_pair: u32;
var<workgroup> tile: vec3<u32>;
fn choose_tile(z: u32, row0: u32, tid: u32) -> u32 {
    if (tid == 0u) {
        let at = now.tokens * USED + z * 3u;
        tile = vec3<u32>(groups[at], groups[at + 1u], groups[at + 2u]);
    }
    let t = workgroupUniformLoad(&tile);
    expert = t.x;
    first_pair = t.y;
    // Another part of the matrix may have the rows.
    return select(0u, t.z, any_here(t.x * Y_ROWS + row0));
}
fn x_of(i: u32) -> u32 { return select(groups[first_pair + i], groups[first_pair + i] / USED, SHARED); }
fn y_of(i: u32) -> u32 { return groups[first_pair + i]; }
fn stored(segment: u32, row: u32) -> bool { return row < Y_ROWS && here(expert * Y_ROWS + row); }
