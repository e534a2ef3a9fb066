// A run of x in workgroup memory, by its place among the staged ones.
fn staged_run(t: u32, at: u32) -> Run {
    return Run(
        xs[place(t, 0u, at)], xs[place(t, 1u, at)], xs[place(t, 2u, at)], xs[place(t, 3u, at)],
        xs[place(t, 4u, at)], xs[place(t, 5u, at)], xs[place(t, 6u, at)], xs[place(t, 7u, at)]);
}
