// A limiter from npm on a loopback port. Everything else about the server is as small as it can be.
//
//     NODE_PATH=.limiters/node_modules node benchmarks/goodput_sockets.js KIND PORT LIMIT SECONDS

const [kind, port, limit, seconds] = [process.argv[2], ...process.argv.slice(3).map(Number)];

function withExpress(limiter) {
  const app = require("express")();
  app.use(limiter);
  app.use((_request, response) => response.sendStatus(204));
  app.listen(port, "127.0.0.1");
}

const servers = {
  "express-rate-limit": () => {
    const { rateLimit } = require("express-rate-limit");
    withExpress(rateLimit({ windowMs: 1000 * seconds, limit, standardHeaders: "draft-8", legacyHeaders: false }));
  },

  "rate-limiter-flexible": () => {
    const { RateLimiterMemory } = require("rate-limiter-flexible");
    const limiter = new RateLimiterMemory({ points: limit, duration: seconds });
    withExpress((request, response, next) => {
      limiter.consume(request.ip).then(
        () => next(),
        // Rounded to the nearest second, which may be too short, as its guide does it.
        (refusal) => {
          response.set("Retry-After", String(Math.round(refusal.msBeforeNext / 1000) || 1));
          response.sendStatus(429);
        },
      );
    });
  },

  "@fastify/rate-limit": async () => {
    const app = require("fastify")();
    await app.register(require("@fastify/rate-limit"), { max: limit, timeWindow: 1000 * seconds });
    app.post("/*", (_request, reply) => reply.code(204).send());
    await app.listen({ port, host: "127.0.0.1" });
  },
};

servers[kind]();
