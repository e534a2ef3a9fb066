// Charts by uPlot, in the page's colours. In a chunk of its own: they are drawn when somebody looks at them.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const color = (name: string) => {
  // The browser says what `light-dark()` comes to.
  const probe = Object.assign(document.createElement("i"), { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

function axes() {
  const axis = {
    stroke: color("--soft"),
    font: "11px system-ui",
    ticks: { show: false },
    grid: { stroke: color("--line"), width: 1 },
  };
  return axis;
}

/** Values over time. */
export function line(root: HTMLElement, data: [number[], number[]], o: { unit: string; height: number }): uPlot {
  const axis = axes();
  return new uPlot(
    {
      width: root.clientWidth,
      height: o.height,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(most * 1.15, 1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 24, values: (_, at) => at.map((x) => `${x} ${o.unit}`) },
        { ...axis, size: 40 },
      ],
      series: [{}, { stroke: color("--accent"), width: 2, fill: color("--tint"), points: { show: false } }],
    },
    data,
    root,
  );
}

/** One bar for each value, with its name below. */
export function bars(root: HTMLElement, values: { name: string; value: number }[], o: { height: number }): uPlot {
  const axis = axes();
  return new uPlot(
    {
      width: root.clientWidth,
      height: o.height,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: [-0.6, values.length - 0.4] },
        y: { range: (_, __, most) => [0, Math.max(most * 1.15, 1)] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 28,
          splits: () => values.map((_, i) => i),
          values: () => values.map(({ name }) => name),
        },
        { ...axis, size: 48 },
      ],
      series: [
        {},
        {
          stroke: color("--accent"),
          fill: color("--accent"),
          points: { show: false },
          paths: uPlot.paths.bars!({ size: [0.5, 64] }),
        },
      ],
    },
    [values.map((_, i) => i), values.map(({ value }) => value)],
    root,
  );
}
