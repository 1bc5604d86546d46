# The project with its pinned dependencies, for docs/compose.yaml; by itself: docker run -p 8000:8000 -e MNIST_PIPELINE_TOKEN=…
FROM python:3.13-slim
WORKDIR /mnist-pipeline
COPY pyproject.toml constraints.txt README.md prefect.yaml ./
COPY mnist_pipeline mnist_pipeline
COPY tasks tasks
COPY flows flows
COPY serving serving
COPY docs docs
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --constraint constraints.txt --editable ".[cluster]"
# What is written goes to /data, which belongs to the user that runs it
RUN useradd --uid 10001 --create-home mnist && mkdir /data && chown mnist /data
ENV MNIST_PIPELINE_HOME=/data
USER mnist
VOLUME /data
EXPOSE 8000
CMD [".venv/bin/python", "-m", "serving", "--host", "0.0.0.0"]
