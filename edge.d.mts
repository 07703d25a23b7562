/**
 * The same names where no addon can be loaded (Cloudflare Workers, browsers): errors work, every call fails with the
 * code `unsupported_runtime`.
 */
export * from './index.js'
