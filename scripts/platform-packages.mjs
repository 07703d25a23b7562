// The packages that carry addon and binary, one for each target in package.json: npm/<platform>/{package.json,README.md}.
// As a program it writes them.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { platformOf, readJson, root } from './shared.mjs'

/** Path and text of each file. */
export function platformPackages() {
  const { name, version, license, description, napi } = readJson('package.json')
  return napi.targets.flatMap((target) => {
    const { platform, os, cpu, libc } = platformOf(target)
    const addon = `${napi.binaryName}.${platform}.node`
    const manifest = {
      name: `${napi.packageName}-${platform}`,
      version,
      description: `${description} (${target})`,
      license,
      main: addon,
      files: [addon, napi.binaryName],
      os: [os],
      cpu: [cpu],
      libc: [libc],
      // wide on purpose: npm silently skips an optional dependency whose engines do not fit
      engines: { node: '>=18' },
    }
    const readme = `# ${manifest.name}\n\nThe addon and the binary of [${name}](../../README.md) for \`${target}\`. Not for direct use.\n`
    return [
      [join('npm', platform, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`],
      [join('npm', platform, 'README.md'), readme],
    ]
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of platformPackages()) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
}
