'use strict'

const { VastLeaseError } = require('./error.js')
const { version } = require('../package.json')

let loaded

/**
 * The addon, loaded at the first call and not at import. `native.d.ts` is its whole interface.
 */
function native() {
  loaded ??= load()
  return loaded
}

function load() {
  let binding
  try {
    binding = require('../binding.js')
  } catch (cause) {
    throw unavailable(`the native part of crabbox-vast cannot be loaded: ${reason(cause)}`, cause)
  }
  if (binding.version() !== version) {
    throw unavailable(`the native part is version ${binding.version()}, the package is ${version}`)
  }
  return binding
}

function unavailable(message, cause) {
  const { platform, arch } = process
  const libc = platform === 'linux' ? (process.report?.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl') : undefined
  return new VastLeaseError(message, {
    code: 'native_unavailable',
    hint: 'reinstall without omitting optional dependencies; in a clone, run `npm run build`',
    details: { platform, arch, libc, node: process.version },
    cause,
  })
}

/** The innermost message: the loader's own one blames npm and hides why. */
function reason(error) {
  let inner = error
  while (inner?.cause instanceof Error) inner = inner.cause
  return String(inner?.message ?? inner).split('\n', 1)[0]
}

module.exports = { native }
