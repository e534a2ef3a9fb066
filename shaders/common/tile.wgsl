// The segment of a tile of the step, and its number there: tiles have `size` tokens and do not cross segments.
fn tile_of(number: u32, size: u32) -> vec2<u32> {
    var tile = number;
    for (var s = 0u; s + 1u < now.segments; s++) {
        let tiles = (now.segment[s].tokens + size - 1u) / size;
        if (tile < tiles) {
            return vec2<u32>(s, tile);
        }
        tile -= tiles;
    }
    return vec2<u32>(now.segments - 1u, tile);
}
