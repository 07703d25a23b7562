// Says whether the committed generated files are what this tree generates: the addon's loader and typings, the options
// that mirror settings, and the folders of the platform packages. Builds first, unless `--built` says that it was just done.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { platformPackages } from './platform-packages.mjs'
import { settingsFiles } from './settings.mjs'
import { complain, root, run } from './shared.mjs'

if (!process.argv.includes('--built')) run(process.execPath, [join(root, 'scripts', 'build.mjs')])

const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' })
const complaints = []
for (const file of ['binding.js', 'binding.d.ts']) {
  if (git('ls-files', file).trim() === '') complaints.push(`${file} is not committed`)
  const difference = git('diff', 'HEAD', '--', file)
  if (difference) complaints.push(`${file} is not in step: run \`npm run build:debug\` and commit it\n${difference}`)
}
for (const [path, text] of settingsFiles()) {
  if (readIfAny(join(root, path)) !== text) complaints.push(`${path} is not in step: run \`node scripts/settings.mjs\` after a build`)
}
for (const [path, text] of platformPackages()) {
  const found = readIfAny(join(root, path))
  if (found !== text) complaints.push(`${path} is not in step: run \`node scripts/platform-packages.mjs\``)
}
complain(complaints, 'generated files are in step')

function readIfAny(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
