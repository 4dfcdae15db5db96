"use strict";
(() => {
  const errors = [];
  addEventListener("error", (event) => errors.push(String(event.message)));
  const $ = (id) => document.getElementById(id);
  const D = JSON.parse($("data").textContent);

  // What was packed: numbers as differences, texts as templates with holes.
  for (const name of ["mN", "mAt", "eN", "eAt"]) {
    let sum = 0;
    const all = D[name];
    for (let i = 0; i < all.length; i++) all[i] = sum += all[i];
  }
  const M = D.mN.length, E = D.eN.length, O = D.oAt.length, F = D.fAt.length, L = D.lAt.length;
  const texts = [];
  {
    const parts = D.templates.map((template) => template.split("\x7f"));
    const last = parts.map((list) => new Array(list.length - 1).fill(""));
    const lines = D.texts.split("\n");
    for (let i = 0; i < M + E; i++) {
      const runs = lines[i].split(" "), number = +runs[0], pieces = parts[number], before = last[number];
      let text = pieces[0];
      for (let k = 0; k < before.length; k++) {
        const run = runs[k + 1];
        if (run !== "") {
          before[k] = run[0] === "~" ? before[k].slice(0, before[k].length - run.length + 1) + run.slice(1) : run;
        }
        text += before[k] + pieces[k + 1];
      }
      texts.push(text);
    }
    D.texts = null;
  }
  const isPulse = D.names.map((name) => name[0] === "~");
  const nameOf = (number) => D.names[number].replace("~", "");
  const [BEGIN, END] = D.span;
  let latest = 0;
  for (let i = 0; i < M; i++) latest = Math.max(latest, D.mLater[i]);
  const OUTCOMES = ["served", "refused", "unknown", "given up", "under way"];

  // Rows stand lane by lane.
  const LEFT = 118, LANE_HEAD = 20, FAULT_ROW = 17;
  const order = [];
  for (let lane = 0; lane < D.lanes.length; lane++) {
    const rows = D.rows.map((_, row) => row).filter((row) => D.laneOf[row] === lane);
    if (rows.length > 0) order.push({ lane, rows });
  }
  const machines = D.laneOf.filter((lane) => lane !== D.lanes.indexOf("clients")).length;
  let height = 0, faultRows = 1;
  const top = new Array(D.rows.length).fill(0), tall = new Array(D.rows.length).fill(30), laneTop = [];
  const faultRow = new Array(F).fill(0);

  const view = { from: BEGIN, to: END };
  const shown = { faults: true, operations: true, messages: true, pulses: false, disk: false, marks: true };
  let width = 0, colours = {}, query = "", matches = [], match = -1, selected = null, frame = 0;
  const hit = { message: null, event: null, operation: null };
  let labels = [], drawn = {};

  const rowsCanvas = $("rows"), axisCanvas = $("axis"), overCanvas = $("overview");
  const seconds = (at) => (at / 1e6).toFixed(6);
  const span = (took) => took >= 1e6 ? (took / 1e6).toFixed(2) + " s" : took >= 1e3 ? (took / 1e3).toFixed(1) + " ms" : took + " µs";
  const x = (at) => LEFT + (at - view.from) / (view.to - view.from) * (width - LEFT);
  const at = (px) => view.from + (px - LEFT) / (width - LEFT) * (view.to - view.from);
  const middle = (row) => top[row] + tall[row] / 2;
  const firstAfter = (list, value) => {
    let low = 0, high = list.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (list[mid] < value) low = mid + 1; else high = mid;
    }
    return low;
  };

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["back", "panel", "line", "text", "soft", "accent", "served", "refused", "unknown", "given", "open", "bad"]) {
      colours[name] = style.getPropertyValue("--" + name).trim();
    }
    colours.outcomes = ["served", "refused", "unknown", "given", "open"].map((name) => colours[name]);
  }

  // Faults that last at the same time stand below each other.
  function layout() {
    const free = [];
    for (let i = 0; i < F; i++) {
      let row = free.findIndex((end) => end <= D.fAt[i]);
      if (row < 0) row = free.length;
      free[row] = D.fEnd[i] + 1;
      faultRow[i] = row;
    }
    faultRows = Math.max(1, free.length);
    const room = $("scroll").clientHeight - faultRows * FAULT_ROW - 24 - order.length * LANE_HEAD;
    // Rows of clients need less room.
    const clients = D.rows.length - machines, even = Math.floor(room / D.rows.length);
    const low = Math.max(24, Math.min(34, even));
    const high = Math.max(24, Math.min(76, Math.floor((room - clients * low) / machines)));
    D.rows.forEach((_, row) => tall[row] = row < machines ? high : low);
    let y = faultRows * FAULT_ROW + 24;
    laneTop.length = 0;
    for (const { lane, rows } of order) {
      laneTop.push({ lane, y });
      y += LANE_HEAD;
      for (const row of rows) {
        top[row] = y;
        y += tall[row];
      }
    }
    height = y;
  }

  function size(canvas, high) {
    const ratio = devicePixelRatio || 1;
    const wide = canvas.parentElement.clientWidth;
    canvas.style.height = high + "px";
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    return context;
  }

  /// A text at a place, cut to `room` pixels. Says whether any of it could stand there.
  function label(c, text, left, y, room, colour) {
    let wide = c.measureText(text).width;
    if (wide > room) {
      let fits = Math.floor(text.length * room / wide) + 1, cut = text;
      for (; wide > room && fits >= 3; fits--) {
        cut = text.slice(0, fits).trimEnd() + "…";
        wide = c.measureText(cut).width;
      }
      if (wide > room) return false;
      text = cut;
    }
    c.fillStyle = colour;
    c.fillText(text, left, y);
    labels.push([left, y - 6, left + wide, y + 6, text]);
    return true;
  }

  function showsMessage(i) {
    return isPulse[D.mKind[i]] ? shown.pulses : shown.messages;
  }
  function showsEvent(i) {
    const what = nameOf(D.eWhat[i]);
    if (what === "disk" || what === "disk done" || what === "deadline") return shown.disk;
    return shown.marks;
  }
  const markColour = (what) => what === "note" ? colours.accent : what === "fault" || what === "halt" || what === "body failed" ? colours.bad : colours.soft;
  const searching = () => query !== "";

  function draw() {
    frame = 0;
    width = $("scroll").clientWidth;
    layout();
    labels = [];
    drawn = { lanes: 0, rows: 0, messages: 0, lost: 0, busy: 0, operations: 0, faults: 0, leaders: 0, downs: 0, marks: 0, strikes: 0, failure: false };
    const c = size(rowsCanvas, Math.max(height, $("scroll").clientHeight));
    drawFaultShades(c);
    drawRows(c);
    c.save();
    c.beginPath();
    c.rect(LEFT, 0, width - LEFT, height);
    c.clip();
    drawGrid(c);
    drawDowns(c);
    drawMessages(c);
    drawMarks(c);
    drawLeaders(c);
    drawOperations(c);
    drawFaults(c);
    drawFailure(c);
    drawSelected(c);
    c.restore();
    drawAxis();
    drawOverview();
    $("found").textContent = !searching() ? "" : matches.length === 0 ? "nothing" : (match < 0 ? "" : match + 1 + " / ") + matches.length;
  }
  function redraw() {
    if (frame === 0) frame = requestAnimationFrame(draw);
  }

  function drawRows(c) {
    for (const { lane, y } of laneTop) {
      c.fillStyle = colours.panel;
      c.fillRect(0, y, width, LANE_HEAD);
      c.font = "600 11px system-ui, sans-serif";
      label(c, D.lanes[lane], 8, y + LANE_HEAD / 2, LEFT - 12, colours.text);
      c.font = "11px system-ui, sans-serif";
      drawn.lanes++;
    }
    label(c, "faults", 8, 14, LEFT - 12, colours.soft);
    c.strokeStyle = colours.line;
    c.lineWidth = 1;
    D.rows.forEach((name, row) => {
      c.beginPath();
      c.moveTo(0, Math.round(top[row] + tall[row]) - .5);
      c.lineTo(width, Math.round(top[row] + tall[row]) - .5);
      c.stroke();
      if (row < machines) {
        c.beginPath();
        c.globalAlpha = .6;
        c.moveTo(LEFT, Math.round(middle(row)) + .5);
        c.lineTo(width, Math.round(middle(row)) + .5);
        c.stroke();
        c.globalAlpha = 1;
      }
      label(c, name, 18, middle(row), LEFT - 22, colours.text);
      drawn.rows++;
    });
    c.beginPath();
    c.moveTo(LEFT - .5, 0);
    c.lineTo(LEFT - .5, height);
    c.stroke();
  }

  function steps() {
    const room = (view.to - view.from) / Math.max(2, (width - LEFT) / 110);
    const unit = 10 ** Math.floor(Math.log10(room));
    const step = Math.max(1, [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= room));
    const list = [];
    for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) list.push(t);
    return { list, step };
  }
  function drawGrid(c) {
    c.strokeStyle = colours.line;
    c.globalAlpha = .5;
    for (const t of steps().list) {
      c.beginPath();
      c.moveTo(Math.round(x(t)) + .5, 0);
      c.lineTo(Math.round(x(t)) + .5, height);
      c.stroke();
    }
    c.globalAlpha = 1;
  }
  function drawAxis() {
    const c = size(axisCanvas, 24);
    const { list, step } = steps();
    const digits = Math.max(0, Math.min(6, 6 - Math.floor(Math.log10(step))));
    let free = LEFT;
    c.textAlign = "center";
    c.fillStyle = colours.soft;
    for (const t of list) {
      const text = (t / 1e6).toFixed(digits) + " s", half = c.measureText(text).width / 2;
      if (x(t) - half < free || x(t) + half > width) continue;
      c.fillText(text, x(t), 12);
      free = x(t) + half + 8;
    }
    c.textAlign = "left";
    c.fillText(span(Math.round(view.to - view.from)) + " in sight", 8, 12);
  }

  function drawFaultShades(c) {
    if (!shown.faults) return;
    c.fillStyle = colours.bad;
    for (let i = 0; i < F; i++) {
      const left = Math.max(LEFT, x(D.fAt[i])), right = Math.min(width, Math.max(x(D.fEnd[i]), x(D.fAt[i]) + 2));
      if (right < LEFT || left > width) continue;
      c.globalAlpha = .1;
      for (const row of D.fRows[i]) c.fillRect(left, top[row], right - left, tall[row]);
      c.globalAlpha = 1;
    }
  }
  function drawFaults(c) {
    if (!shown.faults) return;
    for (let i = 0; i < F; i++) {
      const left = x(D.fAt[i]), right = Math.max(x(D.fEnd[i]), left + 3), y = 5 + faultRow[i] * FAULT_ROW;
      if (right < LEFT || left > width) continue;
      c.globalAlpha = .8;
      c.fillStyle = colours.bad;
      c.fillRect(left, y, right - left, FAULT_ROW - 3);
      c.globalAlpha = 1;
      drawn.faults++;
      // Inside the bar, or behind it up to the next one in its row.
      let next = width;
      for (let k = i + 1; k < F; k++) if (faultRow[k] === faultRow[i]) { next = x(D.fAt[k]); break; }
      const text = D.fKind[i] + " · " + victim(i), wide = c.measureText(text).width;
      const start = Math.max(left, LEFT) + 4, y2 = y + (FAULT_ROW - 3) / 2;
      if (right - start >= wide || right - start > next - right) label(c, text, start, y2, right - start - 2, "#fff");
      else label(c, text, Math.max(right, LEFT) + 4, y2, next - right - 10, colours.text);
    }
    if (!shown.marks) return;
    const from = firstAfter(D.sAt, view.from);
    c.fillStyle = colours.bad;
    for (let i = from; i < D.sAt.length && D.sAt[i] <= view.to; i++) {
      const row = D.sRow[i];
      if (row >= D.rows.length) continue;
      c.fillRect(x(D.sAt[i]) - 1, top[row] + tall[row] - 6, 2, 5);
      drawn.strikes++;
    }
  }
  const victim = (i) => {
    const rows = D.fRows[i];
    if (D.fVictim[i] === "All") return "everything";
    if (D.fVictim[i].startsWith("Zone")) return "zone " + D.fVictim[i].replace(/\D/g, "");
    return rows.map((row) => D.rows[row]).join(D.fVictim[i].startsWith("Link") ? " → " : ", ");
  };

  function drawDowns(c) {
    for (let i = 0; i < D.dAt.length; i++) {
      const left = Math.max(LEFT, x(D.dAt[i])), right = Math.min(width, Math.max(x(D.dEnd[i]), x(D.dAt[i]) + 2)), y = top[D.dRow[i]], high = tall[D.dRow[i]];
      if (right < LEFT || left > width) continue;
      c.save();
      c.beginPath();
      c.rect(left, y + 1, right - left, high - 2);
      c.clip();
      c.globalAlpha = .16;
      c.fillStyle = colours.text;
      c.fillRect(left, y, right - left, high);
      c.globalAlpha = .35;
      c.strokeStyle = colours.text;
      c.beginPath();
      for (let s = Math.floor(left / 8) * 8 - high; s < right; s += 8) {
        c.moveTo(s, y + high);
        c.lineTo(s + high, y);
      }
      c.stroke();
      c.restore();
      drawn.downs++;
    }
  }
  function drawLeaders(c) {
    for (let i = 0; i < L; i++) {
      const left = x(D.lAt[i]), right = Math.max(x(D.lEnd[i]), left + 2), y = top[D.lRow[i]];
      if (right < LEFT || left > width) continue;
      c.fillStyle = colours.accent;
      c.fillRect(left, y + 1, right - left, 3);
      drawn.leaders++;
      const start = Math.max(left, LEFT) + 3;
      const text = "leads, term " + D.lTerm[i], room = Math.min(right, width) - start - 3, wide = c.measureText(text).width;
      if (tall[D.lRow[i]] < 28 || room < wide) continue;
      c.globalAlpha = .8;
      c.fillStyle = colours.back;
      c.fillRect(start - 2, y + 5, wide + 4, 12);
      c.globalAlpha = 1;
      label(c, text, start, y + 11, room, colours.accent);
    }
  }

  function drawMessages(c) {
    const from = firstAfter(D.mAt, view.from - latest), to = firstAfter(D.mAt, view.to + 1);
    let count = 0;
    for (let i = from; i < to; i++) if (showsMessage(i) || hit.message?.has(i)) count++;
    const few = count <= 2000;
    if (!few) {
      // How busy each machine is.
      const wide = 3, columns = Math.ceil((width - LEFT) / wide);
      const busy = new Map();
      for (let i = from; i < to; i++) {
        const column = Math.floor((x(D.mAt[i]) - LEFT) / wide);
        if (!showsMessage(i) || column < 0 || column >= columns) continue;
        const key = D.mFrom[i] * columns + column;
        busy.set(key, (busy.get(key) || 0) + 1);
      }
      let most = 1;
      for (const value of busy.values()) most = Math.max(most, value);
      c.fillStyle = colours.soft;
      c.globalAlpha = searching() ? .25 : .55;
      for (const [key, value] of busy) {
        const row = Math.floor(key / columns), high = Math.max(1, (tall[row] - 14) * Math.log1p(value) / Math.log1p(most));
        c.fillRect(LEFT + key % columns * wide, top[row] + tall[row] - 1 - high, wide - 1, high);
        drawn.busy++;
      }
      c.globalAlpha = 1;
    }
    const dim = few ? Math.min(.75, Math.max(.18, 300 / (count + 1))) : 0;
    for (let i = from; i < to; i++) {
      const marked = hit.message?.has(i);
      if (!marked && (!few || !showsMessage(i))) continue;
      arrow(c, i, marked ? colours.accent : colours.text, marked ? 1 : searching() ? dim * .3 : dim, marked ? 1.6 : 1);
      drawn.messages++;
    }
  }
  function arrow(c, i, colour, alpha, wide) {
    const x1 = x(D.mAt[i]), y1 = middle(D.mFrom[i]), y2 = middle(D.mTo[i]);
    c.globalAlpha = alpha;
    c.lineWidth = wide;
    c.strokeStyle = c.fillStyle = colour;
    c.beginPath();
    if (D.mLaterN[i] === 0) {
      // It never arrives: a short way, and a cross.
      const x2 = x1 + 5, y = y1 + (y2 - y1) * .35;
      c.strokeStyle = colours.bad;
      c.setLineDash([3, 2]);
      c.moveTo(x1, y1);
      c.lineTo(x2, y);
      c.stroke();
      c.setLineDash([]);
      c.beginPath();
      c.moveTo(x2 - 3, y - 3);
      c.lineTo(x2 + 3, y + 3);
      c.moveTo(x2 + 3, y - 3);
      c.lineTo(x2 - 3, y + 3);
      c.stroke();
      drawn.lost++;
    } else {
      const x2 = x(D.mAt[i] + D.mLater[i]), turn = Math.atan2(y2 - y1, x2 - x1);
      c.moveTo(x1, y1);
      c.lineTo(x2, y2);
      c.stroke();
      c.beginPath();
      c.moveTo(x2, y2);
      c.lineTo(x2 - 6 * Math.cos(turn - .4), y2 - 6 * Math.sin(turn - .4));
      c.lineTo(x2 - 6 * Math.cos(turn + .4), y2 - 6 * Math.sin(turn + .4));
      c.fill();
    }
    c.globalAlpha = 1;
    c.lineWidth = 1;
  }

  function drawMarks(c) {
    const from = firstAfter(D.eAt, view.from), to = firstAfter(D.eAt, view.to + 1);
    const taken = new Map();
    for (let i = from; i < to; i++) {
      const row = D.eRow[i] - 1, marked = hit.event?.has(i);
      if (row < 0 || !marked && !showsEvent(i)) continue;
      const what = nameOf(D.eWhat[i]), weight = what === "note" || what === "fault" || what === "halt";
      const px = Math.round(x(D.eAt[i])), place = row * 2 + (weight ? 1 : 0);
      // Marks at one pixel are one.
      if (!marked && taken.get(place) === px) continue;
      taken.set(place, px);
      c.globalAlpha = marked ? 1 : searching() ? .25 : weight ? 1 : .5;
      c.fillStyle = marked ? colours.accent : markColour(what);
      const y = middle(row);
      if (weight) {
        c.beginPath();
        c.moveTo(px, y - 4);
        c.lineTo(px + 4, y);
        c.lineTo(px, y + 4);
        c.lineTo(px - 4, y);
        c.fill();
      } else {
        c.fillRect(px - .5, y - (marked ? 7 : 4), 1.5, marked ? 14 : 8);
      }
      drawn.marks++;
    }
    c.globalAlpha = 1;
  }

  function drawOperations(c) {
    if (!shown.operations) return;
    for (let i = 0; i < O; i++) {
      const left = x(D.oAt[i]), right = Math.max(x(D.oEnd[i]), left + 1.5), y = top[D.oRow[i]] + 4;
      if (right < LEFT || left > width) continue;
      const marked = hit.operation?.has(i), high = tall[D.oRow[i]] - 8;
      c.globalAlpha = searching() && !marked ? .2 : 1;
      c.fillStyle = colours.outcomes[D.oOut[i]];
      c.fillRect(left, y, right - left, high);
      if (marked) {
        c.strokeStyle = colours.text;
        c.lineWidth = 1.5;
        c.strokeRect(left - 1, y - 1, right - left + 2, high + 2);
        c.lineWidth = 1;
      }
      const start = Math.max(left, LEFT) + 3, room = Math.min(right, width) - start - 3;
      if (room > 20 && c.globalAlpha === 1) label(c, operationText(i), start, y + high / 2, room, "#fff");
      c.globalAlpha = 1;
      drawn.operations++;
    }
  }
  const operationText = (i) => [nameOf(D.oWhat[i]), D.oKey[i], "·", OUTCOMES[D.oOut[i]]].filter((part) => part !== "").join(" ");

  function drawFailure(c) {
    if (D.failure === "" || END < view.from || END > view.to) return;
    const px = Math.min(x(END), width - 2);
    c.fillStyle = colours.bad;
    c.fillRect(px - 1, 0, 2.5, height);
    drawn.failure = true;
    const y = faultRows * FAULT_ROW + 14;
    c.textAlign = "right";
    c.font = "600 11px system-ui, sans-serif";
    let text = "FAILED: " + D.failure.split("\n")[0];
    const room = px - LEFT - 10;
    while (text.length > 8 && c.measureText(text).width > room) text = text.slice(0, Math.floor(text.length * .9)) + "…";
    c.fillText(text, px - 6, y);
    const wide = c.measureText(text).width;
    labels.push([px - 6 - wide, y - 6, px - 6, y + 6, text]);
    c.textAlign = "left";
    c.font = "11px system-ui, sans-serif";
  }

  function drawSelected(c) {
    if (!selected) return;
    const { kind, i } = selected;
    c.strokeStyle = colours.accent;
    c.lineWidth = 2;
    if (kind === "message") arrow(c, i, colours.accent, 1, 2.5);
    if (kind === "operation") c.strokeRect(x(D.oAt[i]) - 2, top[D.oRow[i]] + 2, Math.max(x(D.oEnd[i]) - x(D.oAt[i]), 1.5) + 4, tall[D.oRow[i]] - 4);
    if (kind === "event" && D.eRow[i] > 0) c.strokeRect(x(D.eAt[i]) - 7, middle(D.eRow[i] - 1) - 9, 14, 18);
    if (kind === "fault") c.strokeRect(x(D.fAt[i]) - 1, 4 + faultRow[i] * FAULT_ROW, Math.max(x(D.fEnd[i]) - x(D.fAt[i]), 3) + 2, FAULT_ROW - 1);
    if (kind === "strike") c.strokeRect(x(D.sAt[i]) - 4, top[D.sRow[i]] + tall[D.sRow[i]] - 9, 8, 10);
    c.lineWidth = 1;
  }

  // The whole run: how much happens, faults, operations that did not go well, matches, and what is in sight.
  const ox = (t) => LEFT + (t - BEGIN) / (END - BEGIN) * (width - LEFT);
  const oat = (px) => BEGIN + (px - LEFT) / (width - LEFT) * (END - BEGIN);
  let activity = null;
  function drawOverview() {
    const c = size(overCanvas, 44), columns = Math.max(1, Math.floor((width - LEFT) / 2));
    if (!activity || activity.length !== columns) {
      activity = new Array(columns).fill(0);
      for (let i = 0; i < M; i++) {
        const column = Math.floor((D.mAt[i] - BEGIN) / (END - BEGIN + 1) * columns);
        if (column >= 0 && column < columns) activity[column]++;
      }
    }
    const most = activity.reduce((one, other) => Math.max(one, other), 1);
    c.fillStyle = colours.soft;
    c.fillText("overview", 8, 22);
    c.save();
    c.beginPath();
    c.rect(LEFT, 0, width - LEFT, 44);
    c.clip();
    c.fillStyle = colours.bad;
    c.globalAlpha = .18;
    for (let i = 0; i < F; i++) c.fillRect(ox(D.fAt[i]), 0, Math.max(1, ox(D.fEnd[i]) - ox(D.fAt[i])), 44);
    c.globalAlpha = .6;
    c.fillStyle = colours.soft;
    activity.forEach((count, column) => c.fillRect(LEFT + column * 2, 36 - 32 * count / most, 1.5, 32 * count / most));
    c.globalAlpha = 1;
    for (let i = 0; i < O; i++) {
      c.fillStyle = colours.outcomes[D.oOut[i]];
      c.fillRect(ox(D.oAt[i]), 38, Math.max(1, ox(D.oEnd[i]) - ox(D.oAt[i])), 5);
    }
    c.fillStyle = colours.accent;
    for (const found of matches) c.fillRect(ox(found.at), 0, 1, 6);
    if (D.failure !== "") {
      c.fillStyle = colours.bad;
      c.fillRect(Math.min(ox(END), width - 2) - 1, 0, 2.5, 44);
    }
    c.fillStyle = colours.accent;
    c.globalAlpha = .15;
    const left = ox(view.from), right = ox(view.to);
    c.fillRect(left, 0, right - left, 44);
    c.globalAlpha = 1;
    c.strokeStyle = colours.accent;
    c.strokeRect(left + .5, .5, Math.max(2, right - left - 1), 43);
    c.restore();
  }

  // Moving.
  function look(from, to) {
    const most = END - BEGIN, wide = Math.min(most, Math.max(20, to - from));
    if (to - from !== wide) {
      const centre = (from + to) / 2;
      from = centre - wide / 2;
    }
    view.from = Math.min(Math.max(BEGIN, from), END - wide);
    view.to = view.from + wide;
    redraw();
  }
  function zoom(factor, centre = (view.from + view.to) / 2) {
    look(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
  }
  function pan(share) {
    const by = (view.to - view.from) * share;
    look(view.from + by, view.to + by);
  }

  // The lines of the trace.
  const line = (n, t, who, what, text) => `${String(n).padStart(8)} ${seconds(t).padStart(12)} ${who.padEnd(9)} ${what.padEnd(12)} ${text}`;
  const eventLine = (i) => line(D.eN[i], D.eAt[i], D.eRow[i] === 0 ? "world" : D.rows[D.eRow[i] - 1], nameOf(D.eWhat[i]), texts[M + i]);
  function messageLines(i) {
    const sent = line(D.mN[i], D.mAt[i], D.rows[D.mFrom[i]], "send", "→ " + D.rows[D.mTo[i]] + " " + texts[i]);
    if (D.mLaterN[i] === 0) return [sent, "It never arrived."];
    const later = D.mAt[i] + D.mLater[i];
    return [sent, line(D.mN[i] + D.mLaterN[i], later, D.rows[D.mTo[i]], "message", "← " + D.rows[D.mFrom[i]] + " " + texts[i])];
  }
  function operationLines(i) {
    const request = new RegExp("\\breq-" + D.oRequest[i] + "(?!\\d)"), lines = [];
    // The answer comes with the last event, or with one at its very end.
    for (let k = firstAfter(D.eN, D.oN[i]); k < E && (D.eN[k] <= D.oEndN[i] + 1 || D.eAt[k] <= D.oEnd[i]); k++) {
      if (D.eRow[k] - 1 === D.oVia[i] && request.test(texts[M + k])) lines.push(eventLine(k));
    }
    return lines;
  }
  /// What a thing is, in a line, and its lines of the trace.
  function tell(kind, i, whole) {
    let what = "", lines = [];
    if (kind === "message") {
      what = `${nameOf(D.mKind[i])}: ${D.rows[D.mFrom[i]]} → ${D.rows[D.mTo[i]]}, ` + (D.mLaterN[i] === 0 ? "lost" : span(D.mLater[i]));
      lines = messageLines(i);
    } else if (kind === "operation") {
      what = `${D.rows[D.oRow[i]]} by ${D.rows[D.oVia[i]]}: ${operationText(i)}, ${span(D.oEnd[i] - D.oAt[i])}`;
      lines = whole ? [D.oAnswer[i], ...operationLines(i)] : [];
    } else if (kind === "event") {
      what = nameOf(D.eWhat[i]);
      lines = [eventLine(i)];
    } else if (kind === "fault") {
      what = `${D.fKind[i]}: ${victim(i)}, ${span(D.fEnd[i] - D.fAt[i])}`;
      lines = [`from ${seconds(D.fAt[i])} to ${seconds(D.fEnd[i])}, ${D.fVictim[i]}`];
      const begun = firstAfter(D.eN, D.fN[i]);
      if (D.eN[begun] === D.fN[i]) lines.push(eventLine(begun));
    } else if (kind === "strike") {
      what = nameOf(D.sKind[i]);
      lines = [`${seconds(D.sAt[i])} ${D.rows[D.sRow[i]]}` + (D.sOther[i] > 0 ? " → " + D.rows[D.sOther[i] - 1] : "")];
    } else if (kind === "leader") {
      what = `${D.rows[D.lRow[i]]} leads range ${D.lRange[i]} in term ${D.lTerm[i]}, ${span(D.lEnd[i] - D.lAt[i])}`;
      lines = [`from ${seconds(D.lAt[i])} to ${seconds(D.lEnd[i])}`];
    } else if (kind === "down") {
      what = `${D.rows[D.dRow[i]]} stands still, ${span(D.dEnd[i] - D.dAt[i])}`;
      lines = [`from ${seconds(D.dAt[i])} to ${seconds(D.dEnd[i])}`];
    } else {
      what = "The run failed at " + seconds(END) + " s";
      lines = [D.failure];
    }
    return [what, lines];
  }
  function select(kind, i) {
    selected = { kind, i };
    const [what, lines] = tell(kind, i, true);
    $("what").textContent = what;
    $("text").textContent = lines.join("\n");
    $("details").hidden = false;
    redraw();
  }
  function close() {
    selected = null;
    $("details").hidden = true;
    redraw();
  }

  /// What is at a place of the rows.
  function whatIsAt(px, py) {
    if (py < faultRows * FAULT_ROW + 5) {
      for (let i = F - 1; i >= 0; i--) {
        const y = 5 + faultRow[i] * FAULT_ROW;
        if (py >= y && py < y + FAULT_ROW && px >= x(D.fAt[i]) - 3 && px <= Math.max(x(D.fEnd[i]), x(D.fAt[i]) + 3) + 3) return ["fault", i];
      }
    }
    for (let i = 0; i < O; i++) {
      const y = top[D.oRow[i]];
      if (py >= y && py < y + tall[D.oRow[i]] && px >= x(D.oAt[i]) - 2 && px <= Math.max(x(D.oEnd[i]), x(D.oAt[i]) + 1.5) + 2) return ["operation", i];
    }
    let best = null, near = 6;
    const offer = (distance, kind, i) => {
      if (distance < near) {
        near = distance;
        best = [kind, i];
      }
    };
    if (shown.marks) {
      for (let i = firstAfter(D.sAt, at(px - 6)); i < D.sAt.length && D.sAt[i] <= at(px + 6); i++) {
        const row = D.sRow[i];
        if (row < top.length && Math.abs(py - top[row] - tall[row] + 4) < 4) offer(Math.abs(px - x(D.sAt[i])), "strike", i);
      }
    }
    for (let i = firstAfter(D.eAt, at(px - 6)); i < E && D.eAt[i] <= at(px + 6); i++) {
      if (D.eRow[i] === 0 || !showsEvent(i) && !hit.event?.has(i)) continue;
      const dy = Math.abs(py - middle(D.eRow[i] - 1));
      if (dy < 8) offer(Math.abs(px - x(D.eAt[i])), "event", i);
    }
    if (drawn.busy === 0 || hit.message) {
      for (let i = firstAfter(D.mAt, view.from - latest); i < M && D.mAt[i] <= view.to; i++) {
        if (!hit.message?.has(i) && (drawn.busy > 0 || !showsMessage(i))) continue;
        const x1 = x(D.mAt[i]), y1 = middle(D.mFrom[i]), lost = D.mLaterN[i] === 0;
        const x2 = lost ? x1 + 5 : x(D.mAt[i] + D.mLater[i]);
        const y2 = lost ? y1 + (middle(D.mTo[i]) - y1) * .35 : middle(D.mTo[i]);
        const dx = x2 - x1, dy = y2 - y1, t = Math.max(0, Math.min(1, ((px - x1) * dx + (py - y1) * dy) / (dx * dx + dy * dy)));
        offer(Math.hypot(px - x1 - t * dx, py - y1 - t * dy), "message", i);
      }
    }
    if (best) return best;
    if (D.failure !== "" && Math.abs(px - Math.min(x(END), width - 2)) < 6) return ["failure", 0];
    for (let i = 0; i < L; i++) {
      if (py >= top[D.lRow[i]] && py < top[D.lRow[i]] + 16 && px >= x(D.lAt[i]) && px <= x(D.lEnd[i]) + 1) return ["leader", i];
    }
    for (let i = 0; i < D.dAt.length; i++) {
      if (py >= top[D.dRow[i]] && py < top[D.dRow[i]] + tall[D.dRow[i]] && px >= x(D.dAt[i]) && px <= x(D.dEnd[i]) + 1) return ["down", i];
    }
    return null;
  }

  // Searching.
  function search(text) {
    query = text.trim();
    matches = [];
    match = -1;
    hit.message = hit.event = hit.operation = null;
    if (query !== "") {
      const wanted = query.toLowerCase(), has = (told) => told.toLowerCase().includes(wanted);
      hit.message = new Set();
      hit.event = new Set();
      hit.operation = new Set();
      for (let i = 0; i < O; i++) if (has(operationText(i) + " req-" + D.oRequest[i])) {
        hit.operation.add(i);
        matches.push({ at: D.oAt[i], n: D.oN[i], kind: "operation", i });
      }
      for (let i = 0; i < M; i++) if (has(texts[i])) {
        hit.message.add(i);
        matches.push({ at: D.mAt[i], n: D.mN[i], kind: "message", i });
      }
      for (let i = 0; i < E; i++) if (has(texts[M + i])) {
        hit.event.add(i);
        matches.push({ at: D.eAt[i], n: D.eN[i], kind: "event", i });
      }
      matches.sort((one, other) => one.at - other.at || one.n - other.n);
    }
    redraw();
    return matches.length;
  }
  function jump(by) {
    if (matches.length === 0) return;
    // The first jump goes to what is in sight, if any is.
    if (match < 0) match = by > 0 ? Math.max(0, matches.findIndex((found) => found.at >= view.from)) : matches.length - 1;
    else match = (match + by + matches.length) % matches.length;
    const found = matches[match], wide = Math.min(view.to - view.from, 2e5);
    look(found.at - wide / 3, found.at + wide * 2 / 3);
    select(found.kind, found.i);
    const row = found.kind === "operation" ? D.oRow[found.i] : found.kind === "message" ? D.mFrom[found.i] : D.eRow[found.i] - 1;
    const box = $("scroll");
    if (row >= 0 && (top[row] < box.scrollTop || top[row] + tall[row] > box.scrollTop + box.clientHeight)) box.scrollTop = top[row] - 40;
  }
  function toFailure() {
    if (D.failure === "") return;
    const wide = Math.min(END - BEGIN, 5e5);
    look(END - wide, END);
    select("failure", 0);
  }

  // Hands.
  let drag = null;
  rowsCanvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, scroll: $("scroll").scrollTop, far: false };
    rowsCanvas.setPointerCapture(event.pointerId);
  });
  rowsCanvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      const found = whatIsAt(event.offsetX, event.offsetY);
      rowsCanvas.style.cursor = found ? "pointer" : "";
      rowsCanvas.title = found ? tell(found[0], found[1], false)[0] : "";
      return;
    }
    drag.far ||= Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
    if (!drag.far) return;
    rowsCanvas.classList.add("dragged");
    const by = (drag.x - event.clientX) / (width - LEFT) * (drag.to - drag.from);
    look(drag.from + by, drag.to + by);
    $("scroll").scrollTop = drag.scroll + drag.y - event.clientY;
  });
  rowsCanvas.addEventListener("pointerup", (event) => {
    rowsCanvas.classList.remove("dragged");
    if (drag && !drag.far) {
      const found = whatIsAt(event.offsetX, event.offsetY);
      if (found) select(found[0], found[1]); else close();
    }
    drag = null;
  });
  rowsCanvas.addEventListener("dblclick", () => look(BEGIN, END));
  rowsCanvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const along = event.shiftKey ? event.deltaX || event.deltaY : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    if (along !== 0) pan(along / 1000);
    else zoom(Math.exp(Math.max(-200, Math.min(200, event.deltaY)) / 400), at(Math.max(LEFT, event.offsetX)));
  }, { passive: false });
  let chosen = null;
  overCanvas.addEventListener("pointerdown", (event) => {
    chosen = oat(event.offsetX);
    overCanvas.setPointerCapture(event.pointerId);
    const wide = view.to - view.from;
    look(chosen - wide / 2, chosen + wide / 2);
  });
  overCanvas.addEventListener("pointermove", (event) => {
    const now = oat(event.offsetX);
    if (chosen !== null && Math.abs(ox(now) - ox(chosen)) > 4) look(Math.min(chosen, now), Math.max(chosen, now));
  });
  overCanvas.addEventListener("pointerup", () => chosen = null);

  const box = $("search");
  let later = 0;
  box.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => search(box.value), 120);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      clearTimeout(later);
      if (box.value.trim() !== query) search(box.value);
      jump(event.shiftKey ? -1 : 1);
    }
  });
  const keys = {
    "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6), "0": () => look(BEGIN, END), "/": () => box.focus(),
    "n": () => jump(1), "N": () => jump(-1), "f": toFailure, "?": () => $("helptext").showModal(),
    "ArrowLeft": () => pan(-.2), "ArrowRight": () => pan(.2),
    "ArrowUp": () => $("scroll").scrollBy(0, -40), "ArrowDown": () => $("scroll").scrollBy(0, 40),
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("helptext").open) {
      if (!$("details").hidden) close();
      else {
        box.value = "";
        search("");
      }
      box.blur();
      return;
    }
    const act = keys[event.key];
    if (!act || event.target === box || event.ctrlKey || event.metaKey || event.altKey || $("helptext").open) return;
    event.preventDefault();
    act();
  });
  $("in").onclick = () => zoom(.6);
  $("out").onclick = () => zoom(1 / .6);
  $("all").onclick = () => look(BEGIN, END);
  $("next").onclick = () => jump(1);
  $("previous").onclick = () => jump(-1);
  $("close").onclick = close;
  $("help").onclick = () => $("helptext").showModal();
  $("failure").onclick = toFailure;

  // What stands around.
  $("title").textContent = "Timeline of " + D.title;
  $("verdict").textContent = `${D.failure === "" ? "passed" : "failed"} · ${D.all[0].toLocaleString("en")} events · ${span(END - BEGIN)} · trace ${D.hash}`;
  if (D.failure !== "") {
    $("failure").hidden = false;
    $("failure").textContent = "FAILED: " + D.failure;
  }
  const left = D.left.map((what, i) => `${D.leftCount[i].toLocaleString("en")} ${what}`);
  $("left").textContent = left.length === 0 ? "Nothing of the run was left out." : "Left out, since a page has at most 5 MiB: " + left.join("; ") + ".";
  const legend = $("legend");
  function swatch(colour, text) {
    const item = document.createElement("label"), patch = document.createElement("i");
    patch.style.background = `var(--${colour})`;
    item.append(patch, text);
    legend.append(item);
  }
  ["served", "refused", "unknown", "given", "open"].forEach((name, i) => swatch(name, OUTCOMES[i]));
  const choices = { faults: "faults", operations: "operations", messages: "messages", pulses: "heartbeats", disk: "disk, timers", marks: "marks" };
  for (const [name, text] of Object.entries(choices)) {
    const item = document.createElement("label"), check = document.createElement("input");
    check.type = "checkbox";
    check.checked = shown[name];
    check.onchange = () => {
      shown[name] = check.checked;
      redraw();
    };
    item.append(check, text);
    legend.append(item);
  }
  if (left.length > 0) {
    const item = document.createElement("span");
    item.textContent = "Left out: " + left.join("; ");
    legend.append(item);
  }

  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    redraw();
  });
  new ResizeObserver(redraw).observe($("scroll"));
  draw();

  /// For tests: what is there, what was drawn last, where things are on the screen.
  window.timeline = {
    errors,
    rows: D.rows,
    lanes: D.lanes,
    counts: { messages: M, events: E, operations: O, faults: F, leaders: L, strikes: D.sAt.length },
    left,
    keys: D.oKey,
    view: () => [view.from, view.to],
    drawn: () => (draw(), drawn),
    labels: () => (draw(), labels),
    matches: () => matches.length,
    details: () => $("details").hidden ? null : $("what").textContent + "\n" + $("text").textContent,
    look: (from, to) => (look(from, to), draw()),
    place(kind, i) {
      draw();
      const box = rowsCanvas.getBoundingClientRect();
      const spot = {
        operation: () => [(x(D.oAt[i]) + x(D.oEnd[i])) / 2, middle(D.oRow[i])],
        fault: () => [(x(D.fAt[i]) + x(D.fEnd[i])) / 2, 5 + faultRow[i] * FAULT_ROW + 6],
        message: () => [(x(D.mAt[i]) + x(D.mAt[i] + D.mLater[i])) / 2, (middle(D.mFrom[i]) + middle(D.mTo[i])) / 2],
      }[kind]();
      return [box.left + spot[0], box.top + spot[1]];
    },
    raw: D,
  };
})();
