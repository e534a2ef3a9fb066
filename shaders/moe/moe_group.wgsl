// The rows of a step by expert, for kernels that unpack an expert's matrix once for many of them: first the pairs token
// * USED + place, those of an expert together, then the tiles of up to TILE of them, each as an expert, the start of
// its pairs, and their number. Tiles beyond those needed are empty. One workgroup does a counting sort. The order of an
// expert's pairs does not matter: the result of each is the same in any tile.
@group(0) @binding(1) var<storage, read> route: array<f32>;
@group(0) @binding(2) var<storage, read_write> groups: array<u32>;

const WG: u32 = 256u;

var<workgroup> counts: array<atomic<u32>, EXPERTS>;
// The place of the next pair of an expert.
var<workgroup> next: array<atomic<u32>, EXPERTS>;
var<workgroup> tiles: u32;

fn expert_of(pair: u32) -> u32 {
    return min(u32(route[pair / USED * 2u * USED + pair % USED]), EXPERTS - 1u);
}

fn put_tile(n: u32, tile: vec3<u32>) {
    let at = now.tokens * USED + n * 3u;
    groups[at] = tile.x;
    groups[at + 1u] = tile.y;
    groups[at + 2u] = tile.z;
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) tid: u32) {
    let pairs = now.tokens * USED;
    for (var e = tid; e < EXPERTS; e += WG) {
        atomicStore(&counts[e], 0u);
    }
    workgroupBarrier();
    for (var p = tid; p < pairs; p += WG) {
        atomicAdd(&counts[expert_of(p)], 1u);
    }
    workgroupBarrier();
    for (var e = tid; e < EXPERTS; e += WG) {
        var first = 0u;
        var tile = 0u;
        for (var o = 0u; o < e; o++) {
            let n = atomicLoad(&counts[o]);
            first += n;
            tile += (n + TILE - 1u) / TILE;
        }
        atomicStore(&next[e], first);
        let n = atomicLoad(&counts[e]);
        for (var i = 0u; i < n; i += TILE) {
            put_tile(tile, vec3<u32>(e, first + i, min(TILE, n - i)));
            tile++;
        }
        if (e == EXPERTS - 1u) {
            tiles = tile;
        }
    }
    workgroupBarrier();
    for (var n = tiles + tid; n < (pairs + TILE - 1u) / TILE + EXPERTS; n += WG) {
        put_tile(n, vec3<u32>(0u));
    }
    for (var p = tid; p < pairs; p += WG) {
        groups[atomicAdd(&next[expert_of(p)], 1u)] = p;
    }
}
