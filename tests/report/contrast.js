/* Texts of less contrast than WCAG's AA asks for (4.5, or 3 where they are large), with what they stand on. */
() => {
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!texts.length || element.closest("script, style, .veil, .unseen, dialog:not([open])") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [luminance(parts(ink)), luminance(ground(element))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24;
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < (large ? 3 : 4.5)) poor.push(`${element.tagName}.${element.getAttribute("class")} ${contrast.toFixed(2)} ${texts[0].data.trim().slice(0, 30)}`);
  }
  return poor;
}
