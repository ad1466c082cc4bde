// Each figure stands there drawn. When it comes into view it is drawn again, to be pointed at, zoomed and switched.
{
  const light = JSON.parse(document.getElementById("figure-colours").textContent);
  const live = async figure => {
    const drawing = figure.querySelector(".drawing"), place = drawing.cloneNode();
    const spec = JSON.parse(figure.querySelector("script").textContent);
    drawing.after(place);
    try {
      await vegaEmbed(place, { ...spec, width: "container" }, { renderer: "svg", actions: false, defaultStyle: false });
      drawing.remove();
    } catch (error) {
      place.remove();
      console.error(error);
    }
  };
  if (window.vegaEmbed && window.IntersectionObserver) {
    const watch = new IntersectionObserver(found => found.filter(e => e.isIntersecting).forEach(e => {
      watch.unobserve(e.target);
      live(e.target);
    }), { rootMargin: "200px" });
    document.querySelectorAll("figure:has(> script)").forEach(figure => watch.observe(figure));
  }
  // What is saved has the colours of paper, whatever the page has now.
  const file = figure => {
    const svg = figure.querySelector("svg").cloneNode(true), [, , width, height] = svg.getAttribute("viewBox").split(" ");
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    const text = new XMLSerializer().serializeToString(svg);
    return { width: +width, height: +height, text: text.replace(/var\(--(\w+)\)/g, (whole, name) => light[name] || whole) };
  };
  const save = (blob, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const kinds = {
    SVG: (figure, name) => save(new Blob([file(figure).text], { type: "image/svg+xml" }), `${name}.svg`),
    PNG: (figure, name) => {
      const { width, height, text } = file(figure), image = new Image(), sharp = 3;
      image.onload = () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: sharp * width, height: sharp * height });
        const draw = canvas.getContext("2d");
        draw.fillStyle = "#fff";
        draw.fillRect(0, 0, canvas.width, canvas.height);
        draw.drawImage(image, 0, 0, canvas.width, canvas.height);
        canvas.toBlob(blob => save(blob, `${name}.png`));
      };
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    },
  };
  document.querySelectorAll("figure.figure").forEach(figure => {
    const saves = Object.assign(document.createElement("p"), { className: "saves" });
    figure.querySelector(".drawing").after(saves);
    for (const [kind, run] of Object.entries(kinds)) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind });
      button.setAttribute("aria-label", `Save this figure as ${kind}`);
      button.onclick = () => run(figure, figure.dataset.name);
      saves.append(button);
    }
  });
}
