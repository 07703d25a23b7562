'use strict'

const { guarded } = require('./call.js')
const { invalidArgument } = require('./error.js')
const { checkNames, readCallback, readEnv, readSignal } = require('./options.js')
const { text, wrong } = require('./settings.js')

const names = ['stdin', 'env', 'cwd', 'signal', 'onStdout', 'onStderr', 'encoding', 'maxBuffer']
const defaultMaxBuffer = 16 * 1024 * 1024

/** Reads a command and its options. */
function readExec(command, options = {}) {
  if (typeof options !== 'object' || options === null) throw invalidArgument('exec: options must be an object')
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  checkNames('exec', given, names)
  const { stdin, env = {}, cwd, signal, encoding = 'utf8', maxBuffer = defaultMaxBuffer } = Object.fromEntries(given)
  const request = { ...readCommand(command), env: readEnv('env', env), stdin: stdin !== undefined }
  if (cwd !== undefined) request.cwd = text('cwd', cwd)
  if (maxBuffer !== Infinity && !(Number.isSafeInteger(maxBuffer) && maxBuffer >= 0)) {
    throw wrong('maxBuffer', 'a whole number of bytes or Infinity', maxBuffer)
  }
  if (encoding !== 'buffer' && !Buffer.isEncoding(encoding)) throw wrong('encoding', 'an encoding or "buffer"', encoding)
  const onStdout = guarded(readCallback('onStdout', options.onStdout))
  const onStderr = guarded(readCallback('onStderr', options.onStderr))
  return {
    request,
    stdin: stdin === undefined ? undefined : readStdin(stdin),
    signal: readSignal(signal),
    collect: { encoding, maxBuffer },
    onChunk: ({ stream, data }) => (stream === 'stdout' ? onStdout : onStderr)?.(data),
  }
}

function readCommand(command) {
  if (Array.isArray(command)) {
    if (command.length === 0) throw invalidArgument('exec needs a command')
    return { argv: command.map((word, index) => text(`argv[${index}]`, word)) }
  }
  if (typeof command === 'object' && command !== null) {
    checkNames('exec', Object.entries(command), ['shell'])
    if (text('shell', command.shell).trim() === '') throw invalidArgument('exec needs a command')
    return { shell: command.shell }
  }
  throw invalidArgument('exec needs an array of words, or `{ shell: "…" }` for the remote shell\'s own syntax')
}

function readStdin(stdin) {
  if (typeof stdin === 'string' || stdin instanceof Uint8Array) return [stdin]
  if (stdin !== null && typeof stdin === 'object' && (stdin[Symbol.asyncIterator] || stdin[Symbol.iterator])) return stdin
  throw wrong('stdin', 'a string, bytes or an (async) iterable of them', stdin)
}

module.exports = { readExec }
