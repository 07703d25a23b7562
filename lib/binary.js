'use strict'

const { statSync } = require('node:fs')
const { dirname, join } = require('node:path')
const { VastLeaseError } = require('./error.js')

const root = join(__dirname, '..')
const arches = { x64: 'x86_64', arm64: 'aarch64' }

/** Platform packages that may hold the binary; on Linux it is static, so either libc's will do. */
function platforms({ platform, arch } = process) {
  if (platform === 'linux') return [`linux-${arch}-gnu`, `linux-${arch}-musl`]
  if (platform === 'win32') return [`win32-${arch}-msvc`]
  return [`${platform}-${arch}`]
}

/** The path of the command line's binary: `CRABBOX_VAST_BINARY`, the platform package, or a clone's newest build. */
function binaryPath({ env = process.env } = {}) {
  if (env.CRABBOX_VAST_BINARY) return env.CRABBOX_VAST_BINARY
  const name = process.platform === 'win32' ? 'crabbox-vast.exe' : 'crabbox-vast'
  const found = installed(name) ?? built(name)
  if (found) return found
  throw new VastLeaseError(`no crabbox-vast binary for ${process.platform}-${process.arch}`, {
    code: 'native_unavailable',
    hint: 'reinstall without omitting optional dependencies; in a clone, run `npm run build`',
  })
}

function installed(name) {
  for (const platform of platforms()) {
    try {
      const folder = dirname(require.resolve(`crabbox-vast-${platform}/package.json`))
      if (time(join(folder, name))) return join(folder, name)
    } catch {
      // not installed: the next one
    }
  }
  return undefined
}

function built(name) {
  const arch = arches[process.arch] ?? process.arch
  const targets = process.platform === 'linux' ? [`${arch}-unknown-linux-gnu`, `${arch}-unknown-linux-musl`] : []
  const folders = ['', ...targets].flatMap((target) => ['release', 'debug'].map((profile) => join('target', target, profile)))
  const places = [...folders, ...platforms().map((platform) => join('npm', platform))]
  const paths = places.map((place) => join(root, place, name)).filter(time)
  return paths.sort((a, b) => time(b) - time(a))[0]
}

function time(path) {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat?.isFile() ? stat.mtimeMs : 0
}

module.exports = { binaryPath, platforms }
