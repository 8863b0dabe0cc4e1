// node shrink.cjs SOURCE TARGET COLOURS: the same picture with a palette.
const sharp = require('sharp');

const [source, target, colours] = process.argv.slice(2);
sharp(source)
  .png({ palette: true, colours: Number(colours), dither: 0, effort: 10, compressionLevel: 9 })
  .toFile(target)
  .catch((error) => {
    process.stderr.write(`${error}\n`);
    process.exitCode = 1;
  });
