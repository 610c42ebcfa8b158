// The interactive front: two splits side by side, one legend, drawn by plotly. It needs no network.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("explore");
  const { runs, arms, tasks, splits } = data;
  const GL_FROM = 3000; // points in one trace from which WebGL draws it
  const FAINT = "#b5b5b5";
  const SYMBOLS_3D = { circle: "circle", square: "square", diamond: "diamond", cross: "cross", x: "x" };
  const GLYPHS = {
    circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", "triangle-down": "▼", cross: "✚",
    x: "✖", "triangle-left": "◀", "triangle-right": "▶", hexagon: "⬢",
  };
  const state = {
    view: tasks.length > 3 ? "parallel" : tasks.length === 3 ? "3d" : "2d",
    x: 0, y: Math.min(1, tasks.length - 1), z: Math.min(2, tasks.length - 1),
    left: data.left, right: data.right,
    show: tasks.length > 3 ? "front" : "all",
    arm: null,
  };

  // plotly reads a few HTML tags in texts: names are shown as they are.
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function digits(value) {
    return Number(value.toPrecision(4)).toString();
  }

  function hover(i, split) {
    const lines = [
      `<b>${plain(arms[runs.arm[i]].name)}</b>, seed ${runs.seed[i]}` + (runs.selected[i] ? ", selected" : ""),
      `run ${plain(runs.id[i])}, step ${runs.step[i]}`,
    ];
    if (runs.lr[i] !== null) lines.push(`learning rate ${runs.lr[i]}`);
    if (runs.weights[i]) lines.push(`weights ${plain(runs.weights[i])}`);
    if (runs.hyper[i]) lines.push(plain(runs.hyper[i]));
    tasks.slice(0, 12).forEach((task, t) =>
      lines.push(`${plain(task)} ${plain(data.objective)} ${digits(split.losses[t][i])}`));
    if (tasks.length > 12) lines.push("…");
    return lines.join("<br>");
  }

  function isShown(i) {
    if (state.arm !== null && runs.arm[i] !== 0 && runs.arm[i] !== state.arm) return false;
    if (state.show === "front") return runs.front[i] || runs.selected[i];
    if (state.show === "selected") return runs.selected[i] || (runs.arm[i] === 0 && runs.front[i]);
    return true;
  }

  // Which runs go into which layer: all of an arm faint, then fronts and selected ones on top.
  function layers() {
    const found = [];
    arms.forEach((arm, a) => {
      const own = runs.arm.map((_, i) => i).filter((i) => runs.arm[i] === a && isShown(i));
      const strong = a === 0 ? (i) => runs.front[i] : (i) => runs.selected[i];
      found.push({ arm, a, strong: false, rows: own.filter((i) => !strong(i)) });
      found.push({ arm, a, strong: true, rows: own.filter(strong) });
    });
    found.sort((one, two) => one.strong - two.strong);
    return found.filter((layer) => layer.rows.length);
  }

  function marker(layer, symbol, scale) {
    const base = layer.a === 0;
    return {
      symbol,
      color: base && !layer.strong ? FAINT : layer.arm.colour,
      size: scale * (layer.strong ? (base ? 5 : 10) : base ? 5 : 6),
      opacity: layer.strong || base ? 0.95 : 0.45,
      line: { color: "#000", width: layer.strong && !base ? 1 : 0 },
    };
  }

  function points(layer, split, places) {
    const trace = {
      mode: "markers", name: plain(layer.arm.name), hoverinfo: "text",
      text: layer.rows.map((i) => hover(i, split)),
    };
    places.forEach((task, k) => { trace["xyz"[k]] = layer.rows.map((i) => split.losses[task][i]); });
    return trace;
  }

  function pairAxes(split) {
    const forth = split.axes[`${state.x},${state.y}`];
    if (forth) return forth;
    const back = split.axes[`${state.y},${state.x}`];
    return back ? [back[1], back[0]] : [taskAxis(split, state.x), taskAxis(split, state.y)];
  }

  function taskAxis(split, task) {
    for (const [key, pair] of Object.entries(split.axes)) {
      const place = key.split(",").indexOf(String(task));
      if (place >= 0) return pair[place];
    }
    return { low: 0, high: 1, log: false };
  }

  // Plain decimals on a logarithmic axis, far beyond its ends, so that a zoom finds them too.
  function logTicks(axis) {
    const steps = axis.high / axis.low > 1e3 || state.view === "3d" ? [1] : axis.high / axis.low > 30 ? [1, 3] : [1, 2, 3, 5, 7];
    const ticks = [];
    for (let decade = Math.floor(Math.log10(axis.low)) - 2; decade <= Math.log10(axis.high) + 2; decade++) {
      steps.forEach((step) => ticks.push(Number(`${step}e${decade}`)));
    }
    return { tickvals: ticks, ticktext: ticks.map(String) };
  }

  function layoutAxis(axis, task) {
    const range = [axis.low, axis.high];
    return {
      title: { text: `${plain(tasks[task])} ${plain(data.objective)}` },
      type: axis.log ? "log" : "linear",
      range: axis.log ? range.map(Math.log10) : range,
      gridcolor: "#e6e6e6", zeroline: false, automargin: true, nticks: 6,
      ...(axis.log ? logTicks(axis) : {}),
    };
  }

  // What at least one, half, or all of the seeds attain: a band and its middle.
  function band(split, arm, axes) {
    const found = split.surfaces[arm.name];
    if (!found || tasks.length !== 2 || state.x === state.y) return [];
    const far = axes.map((axis) => (axis.log ? axis.high * 100 : axis.high + 10 * (axis.high - axis.low)));
    const stairs = (level) => {
      const corners = found[level][0].map((_, k) => [found[level][state.x][k], found[level][state.y][k]]);
      corners.sort((one, two) => one[0] - two[0]);
      const last = corners[corners.length - 1];
      return [[corners[0][0], far[1]], ...corners, [far[0], last[1]]];
    };
    const line = (level, more) => ({
      x: stairs(level).map((corner) => corner[0]), y: stairs(level).map((corner) => corner[1]),
      mode: "lines", hoverinfo: "skip", name: plain(arm.name),
      line: { shape: "hv", color: arm.colour, width: 0 }, ...more,
    });
    return [
      line("best", {}),
      line("worst", { fill: "tonexty", fillcolor: arm.colour + "26" }),
      line("median", { line: { shape: "hv", color: arm.colour, width: 2 } }),
    ];
  }

  function flat(split) {
    const axes = pairAxes(split);
    const traces = band(split, arms[0], axes);
    if (state.arm) traces.push(...band(split, arms[state.arm], axes));
    layers().forEach((layer) => traces.push({
      ...points(layer, split, [state.x, state.y]), marker: marker(layer, layer.arm.symbol, 1),
      type: layer.rows.length > GL_FROM ? "scattergl" : "scatter",
    }));
    const layout = { xaxis: layoutAxis(axes[0], state.x), yaxis: layoutAxis(axes[1], state.y) };
    return [traces, layout];
  }

  function solid(split) {
    const places = [state.x, state.y, state.z];
    const traces = layers().map((layer) => ({
      ...points(layer, split, places), type: "scatter3d",
      marker: marker(layer, SYMBOLS_3D[layer.arm.symbol] || "diamond-open", 0.6),
    }));
    const found = split.surfaces[arms[state.arm || 0].name];
    if (found && tasks.length === 3) {
      traces.push({
        type: "scatter3d", mode: "markers", hoverinfo: "skip", name: "half of the seeds",
        x: found.median[state.x], y: found.median[state.y], z: found.median[state.z],
        marker: { size: 1.5, color: arms[state.arm || 0].colour, opacity: 0.2 },
      });
    }
    const scene = { aspectmode: "cube", camera: { eye: { x: 1.3, y: 1.4, z: 0.8 }, center: { x: 0, y: 0, z: -0.12 } } };
    places.forEach((task, k) => {
      scene["xyz"[k] + "axis"] = { ...layoutAxis(taskAxis(split, task), task), nticks: 5, tickfont: { size: 10 } };
    });
    return [traces, { scene }];
  }

  function parallel(split) {
    const traces = layers().map((layer) => {
      const trace = { x: [], y: [], text: [] };
      layer.rows.forEach((i) => {
        const text = hover(i, split);
        tasks.forEach((task, t) => {
          trace.x.push(t);
          trace.y.push((split.losses[t][i] - data.ideal[t]) / (data.nadir[t] - data.ideal[t]));
          trace.text.push(text);
        });
        trace.x.push(null); trace.y.push(null); trace.text.push("");
      });
      const base = layer.a === 0;
      return {
        ...trace, type: trace.x.length > GL_FROM ? "scattergl" : "scatter", mode: "lines+markers",
        hoverinfo: "text", name: plain(layer.arm.name), connectgaps: false,
        line: { color: base ? FAINT : layer.arm.colour, width: layer.strong && !base ? 2.2 : 1 },
        marker: { symbol: layer.arm.symbol, size: layer.strong && !base ? 7 : 3 },
        opacity: layer.strong && !base ? 0.95 : 0.5,
      };
    });
    const heights = traces.flatMap((trace) => trace.y.filter((y) => y !== null)).sort((a, b) => a - b);
    const top = heights.length ? heights[Math.floor(0.97 * (heights.length - 1))] : 1;
    const layout = {
      xaxis: { tickvals: tasks.map((_, t) => t), ticktext: tasks.map(plain), gridcolor: "#c8c8c8", zeroline: false, automargin: true },
      yaxis: {
        title: { text: `${plain(data.objective)}: 0 ideal, 1 nadir` }, gridcolor: "#e6e6e6", zeroline: false,
        range: [Math.min(0, heights[0] || 0) - 0.05, Math.max(1.1, top) + 0.05], automargin: true,
      },
    };
    return [traces, layout];
  }

  const VIEWS = { "2d": flat, "3d": solid, parallel };

  function drawSide(side) {
    const split = splits[state[side]];
    const [traces, layout] = VIEWS[state.view](split);
    const common = {
      title: { text: plain(split.label), font: { size: 14 }, y: 0.98, yanchor: "top" },
      margin: state.view === "3d" ? { l: 0, r: 0, t: 30, b: 0 } : { l: 55, r: 12, t: 36, b: 48 }, showlegend: false, hovermode: "closest", dragmode: state.view === "3d" ? "orbit" : "zoom",
      font: { family: "system-ui, sans-serif", size: 12, color: "#1c1c1c" },
      plot_bgcolor: "#fff", paper_bgcolor: "#fff", hoverlabel: { align: "left", bgcolor: "#fff", font: { color: "#1c1c1c" } },
    };
    const config = {
      responsive: true, displaylogo: false, showSendToCloud: false, scrollZoom: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    };
    return Plotly.react(root.querySelector(`[data-side=${side}]`), traces, { ...common, ...layout }, config);
  }

  function draw() {
    root.querySelectorAll("[data-arm]").forEach((key) => {
      const own = Number(key.dataset.arm);
      key.setAttribute("aria-pressed", String(state.arm === own));
      key.classList.toggle("off", state.arm !== null && own !== 0 && own !== state.arm);
    });
    root.querySelectorAll("[data-views]").forEach((control) => {
      control.hidden = !control.dataset.views.split(" ").includes(state.view);
    });
    return Promise.all([drawSide("left"), drawSide("right")]).then(() => {
      root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
    });
  }

  function fill(name, choices) {
    const select = root.querySelector(`[name=${name}]`);
    choices.forEach(([value, label]) => select.add(new Option(label, value)));
    select.value = String(state[name]);
    select.addEventListener("change", () => {
      state[name] = ["x", "y", "z"].includes(name) ? Number(select.value) : select.value;
      draw();
    });
  }

  function legend() {
    const place = root.querySelector(".legend");
    arms.forEach((arm, a) => {
      const key = document.createElement("button");
      const glyph = document.createElement("span");
      glyph.textContent = GLYPHS[arm.symbol];
      glyph.style.color = arm.colour;
      glyph.setAttribute("aria-hidden", "true");
      key.append(glyph, arm.name);
      key.type = "button";
      key.dataset.arm = String(a);
      key.title = `${arm.verdict}: click to see it alone with the baseline, again to see all`;
      key.addEventListener("click", () => {
        state.arm = state.arm === a ? null : a;
        draw();
      });
      place.append(key);
    });
  }

  const names = tasks.map((task, t) => [String(t), task]);
  const sides = Object.entries(splits).map(([name, split]) => [name, split.label]);
  const views = [["2d", "pair of tasks"]];
  if (tasks.length >= 3) views.push(["3d", "three tasks, 3-D"], ["parallel", "parallel coordinates"]);
  fill("view", views);
  ["x", "y", "z"].forEach((axis) => fill(axis, names));
  ["left", "right"].forEach((side) => fill(side, sides));
  fill("show", [["all", "all runs"], ["front", "each arm's front"], ["selected", "selected runs"]]);
  legend();
  root.hidden = false;
  document.documentElement.classList.add("live");
  draw();
})();
