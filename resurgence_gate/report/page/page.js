"use strict";
/* Filters, veils and the lens. Text is only ever set as text; without this script the page shows everything in order. */
(() => {
  const byId = (id) => document.getElementById(id);

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

  const grid = byId("pairs");
  if (!grid) return;
  const section = byId("pictures");
  const inOrder = [...grid.children];
  const byConcept = [...inOrder].sort((a, b) => Number(a.dataset.concept.slice(1)) - Number(b.dataset.concept.slice(1)));
  const STEP = 24;
  let chosen = inOrder;
  let room = STEP;

  const filters = byId("filters");
  const concept = byId("by-concept");
  const change = byId("by-change");
  const order = byId("by-order");
  const further = byId("further");

  function show() {
    const all = order.value === "concept" ? byConcept : inOrder;
    chosen = all.filter((pair) =>
      (!concept.value || pair.dataset.concept === concept.value) && (!change.value || pair.dataset.change === change.value));
    const visible = new Set(chosen.slice(0, room));
    for (const pair of inOrder) pair.hidden = !visible.has(pair);
    const some = chosen.length > room ? `, ${room} shown` : "";
    byId("count").textContent = `${chosen.length} of ${inOrder.length} draws${some}`;
    byId("none").hidden = chosen.length > 0;
    further.hidden = chosen.length <= room;
    further.textContent = `Show ${Math.min(STEP, chosen.length - room)} more`;
  }

  function anew() {
    room = STEP;
    grid.append(...(order.value === "concept" ? byConcept : inOrder));
    show();
  }

  filters.hidden = false;
  filters.addEventListener("submit", (event) => event.preventDefault());
  [concept, change].forEach((select) => select.addEventListener("change", () => { room = STEP; show(); }));
  order.addEventListener("change", anew);
  further.addEventListener("click", () => {
    const next = chosen[room];
    room += STEP;
    show();
    next.querySelector("button:not([hidden])")?.focus();
  });
  document.querySelectorAll(".to-pictures").forEach((link) => link.addEventListener("click", () => {
    concept.value = link.dataset.concept;
    change.value = "";
    room = STEP;
    show();
  }));

  /* Veils */
  const blurred = section.classList.contains("blurred");
  const unveil = byId("unveil");
  grid.addEventListener("click", (event) => {
    if (event.target.classList.contains("veil")) event.target.parentElement.classList.add("bare");
  });
  unveil?.addEventListener("click", () => {
    const all = section.classList.toggle("all");
    unveil.setAttribute("aria-pressed", String(all));
    unveil.textContent = all ? "Blur all pictures" : "Show all pictures";
    if (!all) grid.querySelectorAll(".bare").forEach((frame) => frame.classList.remove("bare"));
  });

  /* The lens */
  const lens = byId("lens");
  const stage = byId("stage");
  const slide = byId("slide");
  const sides = [{ image: byId("left"), tag: byId("left-tag"), choice: byId("left-of") },
    { image: byId("right"), tag: byId("right-tag"), choice: byId("right-of") }];
  let current = null;

  const shots = (pair) => [...pair.querySelectorAll(".shots figure")]
    .map((figure) => ({ figure, image: figure.querySelector("img"), label: figure.querySelector(".label").textContent }))
    .filter((shot) => shot.image);

  function cut(percent) {
    slide.value = percent;
    stage.style.setProperty("--at", `${percent}%`);
  }

  function place(side) {
    const shot = shots(current)[side.choice.selectedIndex];
    side.image.src = shot.image.src;
    side.image.alt = shot.image.alt;
    side.tag.textContent = shot.label;
  }

  function look(pair) {
    current = pair;
    const found = shots(pair);
    byId("lens-title").textContent = pair.querySelector("h3").innerText.replace(/\s+/g, " ");
    byId("lens-prompt").textContent = pair.querySelector(".prompt").textContent;
    sides.forEach((side, i) => {
      side.choice.replaceChildren(...found.map((shot) => new Option(shot.label)));
      side.choice.selectedIndex = i ? found.length - 1 : Math.max(found.length - 2, 0);
      const before = found.findIndex((shot) => shot.label === "before");
      if (!i && before >= 0) side.choice.selectedIndex = before;
      place(side);
    });
    cut(50);
    const veiled = blurred && !section.classList.contains("all");
    stage.classList.toggle("veiled", veiled);
    byId("lens-veil").hidden = !veiled;
    const at = chosen.indexOf(pair);
    byId("where").textContent = `${at + 1} of ${chosen.length}`;
    byId("previous").disabled = at <= 0;
    byId("next").disabled = at >= chosen.length - 1;
  }

  function step(by) {
    const pair = chosen[chosen.indexOf(current) + by];
    if (!pair) return;
    look(pair);
    if (byId(by < 0 ? "previous" : "next").disabled) slide.focus(); // a disabled button would lose the keyboard
  }

  grid.querySelectorAll(".pair").forEach((pair) => {
    if (shots(pair).length < 2) return;
    const button = pair.querySelector(".compare");
    button.hidden = false;
    button.addEventListener("click", () => {
      look(pair);
      lens.showModal();
      slide.focus();
    });
  });
  slide.addEventListener("input", () => cut(Number(slide.value)));
  stage.addEventListener("pointermove", (event) => {
    const box = stage.getBoundingClientRect();
    cut(Math.round(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * 100));
  });
  byId("lens-veil").addEventListener("click", () => {
    stage.classList.remove("veiled");
    byId("lens-veil").hidden = true;
    slide.focus();
  });
  sides.forEach((side) => side.choice.addEventListener("change", () => place(side)));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("lens-close").addEventListener("click", () => lens.close());
  lens.addEventListener("click", (event) => { if (event.target === lens) lens.close(); });
  lens.addEventListener("close", () => {
    const pair = current;
    if (pair && pair.hidden) { room = Math.max(room, chosen.indexOf(pair) + 1); show(); }
    pair?.querySelector(".compare").focus();
  });

  show();
})();
